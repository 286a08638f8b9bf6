"""The published checkpoints: the files of GitHub release v0.0.1 of fschmid56/EfficientAT. A file serves its
model at every delay. No checksums were published; that of mn04_as_mAP_432.pt was taken from a download."""

from __future__ import annotations

from typing import Final

from satexport.models.efficientat.variants import VARIANTS
from satexport.models.family import Published

RELEASE: Final = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1"
FILES: Final = {  # the recommended file of a model first; its mAP is in its name
    "mn01": ("mn01_as_mAP_298",),
    "mn02": ("mn02_as_mAP_378",),
    "mn04": ("mn04_as_mAP_432",),
    "mn05": ("mn05_as_mAP_443",),
    "mn10": ("mn10_as_mAP_471",),
    "mn20": ("mn20_as_mAP_478",),
    "mn30": ("mn30_as_mAP_482",),
    "mn40": ("mn40_as_mAP_484", "mn40_as_mAP_483", "mn40_as_mAP_483(2)", "mn40_as_ext_mAP_487",
             "mn40_as_ext_mAP_486", "mn40_as_ext_mAP_485", "mn40_as_no_im_pre_mAP_483",
             "mn40_as_no_im_pre_mAP_483(2)", "mn40_as_no_im_pre_mAP_482"),
    "mn10-hop-5": ("mn10_as_hop_5_mAP_475",),
    "mn10-hop-15": ("mn10_as_hop_15_mAP_463",),
    "mn10-hop-20": ("mn10_as_hop_20_mAP_456",),
    "mn10-hop-25": ("mn10_as_hop_25_mAP_447",),
    "mn10-mels-40": ("mn10_as_mels_40_mAP_453",),
    "mn10-mels-64": ("mn10_as_mels_64_mAP_461",),
    "mn10-mels-256": ("mn10_as_mels_256_mAP_474",),
    "mn10-fc": ("mn10_as_fc_mAP_465",),
    "mn10-fc-s2221": ("mn10_as_fc_s2221_mAP_466",),
    "mn10-fc-s2211": ("mn10_as_fc_s2211_mAP_466",),
}
_SHA256: Final = {
    "mn04_as_mAP_432": "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c",
}


def _published(name: str) -> Published:
    return Published(url=f"{RELEASE}/{name}.pt", file=f"{name}.pt", sha256=_SHA256.get(name), licence="MIT")


PUBLISHED: Final = {variant.name: tuple(map(_published, FILES[variant.model]))
                    for variant in VARIANTS.values()}
