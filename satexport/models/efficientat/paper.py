"""The figures that papers give for the variants, for comparison with measurements.

Source: "Efficient Large-Scale Audio Tagging via Transformer-to-CNN Knowledge Distillation" (Schmid et al.,
2022, arXiv 2211.04772) for clips of 10 s. The mAP, for AudioSet's evaluation set, is that in the name of the
recommended file.
"""

from __future__ import annotations

from typing import Final

from satexport.models.efficientat.published import FILES
from satexport.models.family import PaperFigures

SOURCE: Final = "arXiv 2211.04772"
NOTE: Final = (
    "The EfficientAT paper counts multiply-adds; its figures are doubled here, because a multiply-add counts "
    "as two operations. The front end is in neither count. The mAP is that in the file's name.")
_MULTIPLY_ADDS: Final = {  # 1e9, of 10 s
    "mn04": 0.11, "mn05": 0.16, "mn10": 0.54, "mn20": 2.06, "mn30": 4.55, "mn40": 8.03,
    "mn10-hop-15": 0.36, "mn10-hop-20": 0.27, "mn10-hop-25": 0.22,
    "mn10-mels-40": 0.21, "mn10-mels-64": 0.27, "mn10-mels-256": 1.08,
}


def _operations(model: str) -> float | None:
    return 2 * _MULTIPLY_ADDS[model] if model in _MULTIPLY_ADDS else None


PAPER: Final = {
    f"{model}-10s": PaperFigures(memory_mb=None, gflops=_operations(model),
                                 map=int(names[0][-3:]) / 10, source=SOURCE, note=NOTE)
    for model, names in FILES.items()}
