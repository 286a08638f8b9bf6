"""The figures that papers give for the variants, for comparison with measurements.

The SAT paper (arXiv 2305.17834, Table 1) has one row of PaSST at 10 s: 562 MB, 85 GFLOPs and a mAP of 47.1.
It mixes two models: memory and GFLOPs are those of stride 16 (a multiply-add counts as two; 84.8 without the
products of the attention, 93.9 with them), the mAP is that of stride 10 in the PaSST paper. Memory is that of
one forward pass without the parameters; measured peaks of inference are several times lower.

The PaSST paper (arXiv 2110.05069, Table 1) has the mAP of PaSST-S (stride 10), of PaSST-S-N (no overlap,
stride 16) and of PaSST-S-L (7 blocks). The public files have others, which are in their names.
"""

from __future__ import annotations

from typing import Final

from satexport.models.family import PaperFigures

_PASST: Final = "arXiv 2110.05069, Table 1"
NOTE: Final = ("The mAP is that in the PaSST paper; the names of the public files have the mAP of those "
               "files, for passt-s10 47.2 to 48.6, for passt-l 47.")
S16_NOTE: Final = (
    "Memory and GFLOPs of passt-s16 are those of the SAT paper's row for PaSST, whose mAP, 47.1, is that of "
    "stride 10. These GFLOPs leave out the products of the attention, a tenth of all; a multiply-add counts "
    "as two. The mAP is that of patches without overlap in the PaSST paper; the public files have 46.8 and "
    "47.3.")

PAPER: Final = {
    "passt-s10-10s": PaperFigures(memory_mb=None, gflops=None, map=47.1, source=_PASST, note=NOTE),
    "passt-s16-10s": PaperFigures(memory_mb=562, gflops=85, map=46.6, note=S16_NOTE,
                                  source=f"arXiv 2305.17834, Table 1; mAP: {_PASST}"),
    "passt-l-10s": PaperFigures(memory_mb=None, gflops=None, map=45.9, source=_PASST, note=NOTE),
}
