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

from satexport.models.claims import Counting, PaperFigures

NOTE: Final = ("The mAP is that in the PaSST paper; the names of the public files have the mAP of those "
               "files, for passt-s10 47.2 to 48.6, for passt-l 47.")
S16_NOTE: Final = (
    "Memory and GFLOPs of the SAT paper's row for PaSST are those of stride 16, its mAP, 47.1, is that of "
    "stride 10. These GFLOPs leave out the products of the attention, a tenth of all; a multiply-add "
    "counts as two. The public files of stride 16 have a mAP of 46.8 and 47.3.")
_OWN: Final = {"passt-s10-10s": 47.1, "passt-s16-10s": 46.6, "passt-l-10s": 45.9}  # mAP in %
_SAT_PAPER: Final = {"passt-s16-10s": (PaperFigures(
    paper="2305.17834", tables=("Table 1",), title="PaSST", note=S16_NOTE, parameters_m=86, tokens=512,
    memory_mb=562, gflops=85, map=47.1, is_mixed=True, counting=Counting(
        attention=False, every_token=True, what="without the products of the attention")),)}

PAPER: Final = {
    name: (*_SAT_PAPER.get(name, ()),
           PaperFigures(paper="2110.05069", tables=("Table 1",), note=NOTE, map=value))
    for name, value in _OWN.items()}
