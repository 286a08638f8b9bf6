"""Where the published checkpoints lie (Zenodo record 7964975). No checksum was published."""

from __future__ import annotations

from typing import Final

from satexport.models.family import Published
from satexport.models.sat.variants import VARIANTS

ZENODO: Final = "https://zenodo.org/record/7964975/files"
_FILES: Final = {  # a ViT file serves its model at every delay
    "sat-t-2s": "SAT_T_stream2s_mAP_43_34.pt",
    "sat-t-1s": "SAT_T_stream1s_mAP_40_11.pt",
    "sat-s-2s": "SAT_S_stream2s_mAP_43_37.pt",
    "sat-s-1s": "SAT_S_stream1s_mAP_40_55.pt",
    "sat-b-2s": "SAT_B_stream2s_mAP_45_29.pt",
    "sat-b-1s": "SAT_B_stream1s_mAP_41_37.pt",
    "vit-t": "audiotransformer_tiny_mAP_44_15.pt",
    "vit-s": "audiotransformer_small_mAP_45_68.pt",
    "vit-b": "audiotransformer_base_mAP_47_40.pt",
}


def _published(name: str) -> Published:
    return Published(url=f"{ZENODO}/{name}?download=1", file=name)


PUBLISHED: Final = {v.name: _published(_FILES[v.name if v.has_cache else v.model]) for v in VARIANTS.values()}
