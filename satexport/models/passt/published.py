"""The public checkpoints: files in the GitHub releases of kkoutini/PaSST; no checksums were published.
A file serves its model at every delay."""

from __future__ import annotations

from typing import Final

from satexport.models.family import Published
from satexport.models.passt.variants import VARIANTS

RELEASES: Final = "https://github.com/kkoutini/PaSST/releases/download"
_FILES: Final = {  # model -> release and name of each file, which contains its mAP; the recommended one first
    "passt-s10": (
        "v.0.0.9/passt-s-kd-ap.486.pt",
        "v0.0.1-audioset/passt-s-f128-p16-s10-ap.476-swa.pt",
        "v0.0.2-audioset/passt-s-f128-p16-s10-ap.4761-swa.pt",
        "v0.0.2-audioset/passt-s-f128-p16-s10-ap.472.pt"),
    "passt-s12": ("v0.0.2-audioset/passt-s-f128-p16-s12-ap.473-swa.pt",
                  "v0.0.2-audioset/passt-s-f128-p16-s12-ap.470.pt"),
    "passt-s14": ("v0.0.2-audioset/passt-s-f128-p16-s14-ap.471-swa.pt",
                  "v0.0.2-audioset/passt-s-f128-p16-s14-ap.469.pt"),
    "passt-s16": ("v0.0.2-audioset/passt-s-f128-p16-s16-ap.473-swa.pt",
                  "v0.0.2-audioset/passt-s-f128-p16-s16-ap.468.pt"),
    "passt-l": ("v.0.0.10/passt-l-kd-ap.47.pt",),
    "passt-s10-20sec": ("v0.0.5/passt-s-f128-20sec-p16-s10-ap.474-swa.pt",),
    "passt-s10-30sec": ("v0.0.5/passt-s-f128-30sec-p16-s10-ap.473-swa.pt",),
    "passt-s10-stfthop160": ("v0.0.3-audioset/passt-s-f128-stfthop160-p16-s10-ap.473-swa.pt",),
    "passt-s10-stfthop100": ("v0.0.3-audioset/passt-s-f128-stfthop100-p16-s10-ap.473-swa.pt",),
}


def _published(path: str) -> Published:
    return Published(url=f"{RELEASES}/{path}", file=path.rpartition("/")[2], licence="Apache-2.0")


PUBLISHED: Final = {variant.chunk_name: tuple(map(_published, _FILES[variant.model]))
                    for variant in VARIANTS.values()}
