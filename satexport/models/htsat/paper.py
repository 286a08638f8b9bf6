"""The figures that papers give for the variants, for comparison with measurements.

The SAT paper (arXiv 2305.17834) gives 14 GFLOPs and 171 MB for 10 s in its Table 1, and 42 GFLOPs for 2 s and
1 s in its Table 2, although the model does the same work for each: a shorter chunk is padded to 10 s. A
multiply-add counts as two operations there, as here. The 14 include 2.1 of the STFT, which the published
code does as a convolution: the model alone has 12.0 with the products of the attention, 11.5 without them.
The 42 could not be reproduced. Memory is that of one forward pass without the parameters; measured peaks of
inference are several times lower. The paper gives 1024 tokens: those after the first merging of 2 by 2 of the
4096 patches.
"""

from __future__ import annotations

from typing import Final

from satexport.models.claims import Counting, PaperFigures

NOTE: Final = (
    "The GFLOPs of HTS-AT at 10 s in the SAT paper include the STFT as a convolution (2.1); the model alone "
    "has 12.0, or 11.5 without the products of the attention. A multiply-add counts as two. Those at 1 s and "
    "2 s, three times as many for the same work, could not be reproduced. Its mAP of 47.1 is the mean over "
    "ten circular shifts of a clip. Its 1024 tokens in that paper are those after the first merging of 2 by "
    "2; it has 4096 patches.")
_FIGURES: Final = {"htsat-1s": (42, 2.4), "htsat-2s": (42, 5.2), "htsat-10s": (14, 47.1)}  # GFLOPs, mAP
STFT: Final = 2 * 2 * (1024 // 2 + 1) * 1024 * 1001 / 1e9  # GFLOPs: 1001 frames of 1024 samples, by real and
#                                                            imaginary part, each value a sum over the frame
_REASON: Final = ("the model does the same work at 1, 2 and 10 s, because a shorter chunk is padded; three "
                  "times as many operations could not be reproduced.")

PAPER: Final = {
    name: (PaperFigures(
        paper="2305.17834", title="HTS-AT", note=NOTE,
        tables=("Table 1" if name == "htsat-10s" else "Table 2",), parameters_m=31,
        tokens=1024, memory_mb=171, gflops=gflops, map=value, counting=Counting(
            attention=True, more=STFT, reason="" if name == "htsat-10s" else _REASON,
            what="with the products of the attention and the STFT as a convolution")),)
    for name, (gflops, value) in _FIGURES.items()}
