"""The figures that papers give for the variants, for comparison with measurements.

Source: "Efficient Large-Scale Audio Tagging via Transformer-to-CNN Knowledge Distillation" (Schmid et al.,
2022, arXiv 2211.04772) for clips of 10 s. The mAP, for AudioSet's evaluation set, is that in the name of the
recommended file.
Source of the embeddings' sizes and scores: "Low-Complexity Audio Embedding Extractors" (Schmid et al., 2023,
arXiv 2303.01879), for mn10 and, of the sizes, its published code.
"""

from __future__ import annotations

from typing import Final

from satexport.models.claims import Counting, EmbeddingFigures, PaperFigures
from satexport.models.efficientat.published import FILES

NOTE: Final = (
    "The EfficientAT paper counts multiply-adds, each of which is two operations. The front end is in "
    "neither count. The mAP is that in the file's name.")
EMBEDDINGS_NOTE: Final = (
    "The embedding paper scores its embeddings by HEAR's tasks over the whole recording; satexport gives one "
    "embedding of each chunk, and HEAR was not run.")
_MULTIPLY_ADDS: Final = {  # 1e9, of 10 s
    "mn04": 0.11, "mn05": 0.16, "mn10": 0.54, "mn20": 2.06, "mn30": 4.55, "mn40": 8.03,
    "mn10-hop-15": 0.36, "mn10-hop-20": 0.27, "mn10-hop-25": 0.22,
    "mn10-mels-40": 0.21, "mn10-mels-64": 0.27, "mn10-mels-256": 1.08,
}


def _operations(model: str) -> float | None:
    return 2 * _MULTIPLY_ADDS[model] if model in _MULTIPLY_ADDS else None


_SIZES: Final = {  # model -> numbers of the embeddings "mb+l" and "m-se"
    "mn01": (184, 64), "mn02": (224, 112), "mn04": (320, 232), "mn05": (368, 288), "mn10": (600, 560),
    "mn20": (1072, 1120), "mn30": (1544, 1672), "mn40": (2016, 2232),
}
_HEAR: Final = {"mn10": (86.22, 77.66)}  # of the same, %
_BY_PAPER: Final = {  # model -> the claims of the embedding paper
    model: (PaperFigures(paper="2303.01879", note=EMBEDDINGS_NOTE, embeddings={
        kind: EmbeddingFigures(size=size, hear=score)
        for kind, size, score in zip(("mb+l", "m-se"), sizes, _HEAR.get(model, (None, None)), strict=True)}),)
    for model, sizes in _SIZES.items()}

PAPER: Final = {
    f"{model}-10s": (PaperFigures(
        paper="2211.04772", note=NOTE, gflops=_operations(model), map=int(names[0][-3:]) / 10,
        counting=Counting(attention=False, what="multiply-adds")), *_BY_PAPER.get(model, ()))
    for model, names in FILES.items()}
