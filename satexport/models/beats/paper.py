"""The figures that papers give for the variants, for comparison with measurements.

The SAT paper (arXiv 2305.17834, Tables 1 and 2) counts a multiply-add as two operations and, for BEATs, the
products of the attention too, as here: 99.0 GFLOPs at 10 s and 17.8 at 2 s by this count. It gives the 17.8
for 1 s as well, where this count is 8.8. Memory is that of one forward pass without the parameters; measured
peaks of inference are several times lower. In a run of the public file by the authors of the SAT paper, its
mAP was 45.5.
"""

from __future__ import annotations

from typing import Final

from satexport.models.family import PaperFigures

NOTE: Final = (
    "The GFLOPs of BEATs in the SAT paper include the products of the attention; those for 1 s are the "
    "figure for 2 s again, 8.8 by this count. In a run of the public file by the authors of the SAT paper, "
    "its mAP was 45.5.")
_FIGURES: Final = {"beats-1s": (83, 17.8, 35.2), "beats-2s": (83, 17.8, 38.7), "beats-10s": (620, 100, 47.9)}

PAPER: Final = {
    name: PaperFigures(memory_mb=memory, gflops=gflops, map=value, note=NOTE,
                       source="arXiv 2305.17834, Tables 1 and 2")
    for name, (memory, gflops, value) in _FIGURES.items()}
