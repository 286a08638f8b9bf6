"""The addresses of the published checkpoints, for which no checksums were published.

The Zenodo records of CED are those in the README of its training repository and in the Hub's conversion
scripts; its training code names record 8275319 for ced-mini as well.
"""

from __future__ import annotations

from typing import Final

from satexport.models.family import Published
from satexport.models.sat.variants import VARIANTS, Variant

ZENODO: Final = "https://zenodo.org/record"
_FILES: Final = {  # a ViT or CED file serves its model at every delay
    "sat-t-2s": "SAT_T_stream2s_mAP_43_34.pt",
    "sat-t-1s": "SAT_T_stream1s_mAP_40_11.pt",
    "sat-s-2s": "SAT_S_stream2s_mAP_43_37.pt",
    "sat-s-1s": "SAT_S_stream1s_mAP_40_55.pt",
    "sat-b-2s": "SAT_B_stream2s_mAP_45_29.pt",
    "sat-b-1s": "SAT_B_stream1s_mAP_41_37.pt",
    "vit-t": "audiotransformer_tiny_mAP_44_15.pt",
    "vit-s": "audiotransformer_small_mAP_45_68.pt",
    "vit-b": "audiotransformer_base_mAP_47_40.pt",
    "ced-tiny": "audiotransformer_tiny_mAP_4814.pt",
    "ced-mini": "audiotransformer_mini_mAP_4896.pt",
    "ced-small": "audiotransformer_small_mAP_4958.pt",
    "ced-base": "audiotransformer_base_mAP_4999.pt",
}


def _published(variant: Variant) -> Published:
    file = _FILES[variant.name if variant.has_cache else variant.model]
    record = 7964975
    if variant.is_ced:
        record = 8275319 if variant.model == "ced-small" else 8275347
    return Published(url=f"{ZENODO}/{record}/files/{file}?download=1", file=file,
                     licence="Apache-2.0" if variant.is_ced else None)


PUBLISHED: Final = {variant.name: (_published(variant),) for variant in VARIANTS.values()}
