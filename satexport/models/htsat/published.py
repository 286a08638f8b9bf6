"""The public checkpoints, in a folder that the README of the HTS-AT repository links to; no checksums were
published."""

from __future__ import annotations

from typing import Final

from satexport.models.family import Published
from satexport.models.htsat.variants import VARIANTS

PAGE: Final = "https://github.com/RetroCirce/HTS-Audio-Transformer"
_FILES: Final = tuple(f"HTSAT_AudioSet_Saved_{number}.ckpt" for number in range(1, 7))

PUBLISHED: Final = {
    variant.chunk_name: tuple(Published(url=None, file=file, page=PAGE, licence="MIT") for file in _FILES)
    for variant in VARIANTS.values()}
