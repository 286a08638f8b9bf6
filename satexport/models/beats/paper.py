"""The figures that papers give for the variants, for comparison with measurements.

The SAT paper (arXiv 2305.17834, Tables 1 and 2) counts a multiply-add as two operations and, for BEATs, the
products of the attention too, as here: 99.0 GFLOPs at 10 s and 17.8 at 2 s by this count. It gives the 17.8
for 1 s as well, where this count is 8.8. Memory is that of one forward pass without the parameters; measured
peaks of inference are several times lower. In a run of the public file by the authors of the SAT paper, its
mAP was 45.5.
"""

from __future__ import annotations

from typing import Final

from satexport.models.claims import Counting, PaperFigures

NOTE: Final = (
    "The GFLOPs of BEATs in the SAT paper include the products of the attention; those for 1 s are the "
    "figure for 2 s again, 8.8 by this count. In a run of the public file by the authors of the SAT paper, "
    "its mAP was 45.5.")
_FIGURES: Final = {  # variant -> tokens, memory in MB, GFLOPs, mAP in %; segment F1 and onset F1 in %
    "beats-1s": (48, 83, 17.8, 35.2, 11.0, 5.7),
    "beats-2s": (96, 83, 17.8, 38.7, 16.1, 5.7),
    "beats-10s": (496, 620, 100, 47.9, None, None),
}
_REASONS: Final = {"beats-1s": "the figure for 2 s is printed again for 1 s, which has half the tokens."}

PAPER: Final = {
    name: (PaperFigures(
        paper="2305.17834", note=NOTE, title="BEATs",
        tables=("Table 1",) if name == "beats-10s" else ("Table 2", "Table 3"),
        parameters_m=90, tokens=tokens, memory_mb=memory, gflops=gflops, map=value,
        segment_f1=segment, onset_f1=onset, counting=Counting(
            attention=True, what="with the products of the attention", reason=_REASONS.get(name, ""))),)
    for name, (tokens, memory, gflops, value, segment, onset) in _FIGURES.items()}
