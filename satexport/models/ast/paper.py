"""The figures that papers give for the variants, for comparison with measurements.

The SAT paper (arXiv 2305.17834, Tables 1 and 2) gives 202 GFLOPs and 2.2 GB for every chunk length, because
an AST pads shorter audio. A multiply-add counts as two operations there, as here, but without the products of
the attention and for 998 frames (1190 tokens): 202.6 by this count, 206.7 for the 1024 frames that the model
runs, and 261.0 with the attention. Memory is that of one forward pass without the parameters; measured peaks
of inference are several times lower.

The AST paper (arXiv 2104.01778) has the mAP of each stride.
"""

from __future__ import annotations

from typing import Final

from satexport.models.claims import Counting, PaperFigures

NOTE: Final = (
    "The GFLOPs of AST in the SAT paper are those of 998 frames instead of 1024 and leave out the products "
    "of the attention, a fifth of all; a multiply-add counts as two.")
STRIDES_NOTE: Final = (
    "The mAP by stride is that in the AST paper; the names of the public files have the mAP of those files, "
    "44.7, 44.3 and 44.2.")
_FIGURES: Final = {  # variant -> mAP in %; segment F1 and onset F1 in %
    "ast-1s": (36.6, 10.5, 4.7), "ast-2s": (39.7, 13.7, 4.7), "ast-10s": (45.9, None, None)}
_STRIDES_MAP: Final = {"ast-s12-10s": 45.5, "ast-s14-10s": 45.6, "ast-s16-10s": 45.1}
_COUNTING: Final = Counting(
    attention=False, every_token=True, tokens=1190, what="998 frames instead of 1024, without the products "
                                                         "of the attention")

PAPER: Final = {
    name: (PaperFigures(
        paper="2305.17834", note=NOTE, title="AST",
        tables=("Table 1",) if name == "ast-10s" else ("Table 2", "Table 3"),
        parameters_m=86, tokens=1212, memory_mb=2200, gflops=202, counting=_COUNTING, map=value,
        segment_f1=segment, onset_f1=onset),)
    for name, (value, segment, onset) in _FIGURES.items()
} | {
    name: (PaperFigures(paper="2104.01778", note=STRIDES_NOTE, map=value),)
    for name, value in _STRIDES_MAP.items()}
