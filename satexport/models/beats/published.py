"""The public checkpoints, to which the README of BEATs links on OneDrive; no checksums were published."""

from __future__ import annotations

from typing import Final

from satexport.models.beats.variants import VARIANTS
from satexport.models.family import Published

PAGE: Final = "https://github.com/microsoft/unilm/tree/master/beats"
_ITERATIONS: Final = ("iter3_plus_AS2M", "iter3_plus_AS20K", "iter3", "iter2", "iter1")
_FILES: Final = tuple(f"BEATs_{iteration}_finetuned_on_AS2M_{copy}.pt"
                      for iteration in _ITERATIONS for copy in ("cpt2", "cpt1"))

PUBLISHED: Final = {
    variant.chunk_name: tuple(Published(url=None, file=file, page=PAGE, licence="MIT") for file in _FILES)
    for variant in VARIANTS.values()}
