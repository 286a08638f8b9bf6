"""The public checkpoints, which the README of the AST repository links to; no checksums were published."""

from __future__ import annotations

from typing import Final

from satexport.models.ast.variants import VARIANTS
from satexport.models.family import Published

PAGE: Final = "https://github.com/YuanGongND/ast#pretrained-models"
_FILES: Final = {  # model -> names of the files, and the repositories on the Hub with the same weights
    "ast": (("audioset_10_10_0.4593.pth", "MIT/ast-finetuned-audioset-10-10-0.4593"),
            ("audioset_10_10_0.4495.pth", "MIT/ast-finetuned-audioset-10-10-0.450"),
            ("audioset_10_10_0.4483.pth", ""), ("audioset_10_10_0.4475.pth", "")),
    "ast-s12": (("audioset_12_12_0.4467.pth", "MIT/ast-finetuned-audioset-12-12-0.447"),),
    "ast-s14": (("audioset_14_14_0.4431.pth", "MIT/ast-finetuned-audioset-14-14-0.443"),),
    "ast-s16": (("audioset_16_16_0.4422.pth", "MIT/ast-finetuned-audioset-16-16-0.442"),),
}

PUBLISHED: Final = {
    variant.chunk_name: tuple(Published(url=None, file=file, page=PAGE, hub=hub, licence="BSD-3-Clause")
                              for file, hub in _FILES[variant.model])
    for variant in VARIANTS.values()}
