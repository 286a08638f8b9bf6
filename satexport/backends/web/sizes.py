"""The sizes of what a page downloads, as files and compressed as a web server does it once for each file."""

from __future__ import annotations

import gzip

from satexport.backends.web.runtime import VERSION
from satexport.bundle.folder import CALIBRATION, GOLDEN, Bundle
from satexport.memory import MB

NOT_LOADED = (GOLDEN, CALIBRATION)  # parts that a page does not need to run; it links the licences
BROTLI, GZIP = 9, 9  # levels


def brotli_size(bundle: Bundle) -> int | None:
    """Return the bytes of what a page downloads, compressed by brotli; None if its package is missing."""
    try:
        import brotli
    except ImportError:
        return None
    return sum(len(brotli.compress(content, quality=BROTLI)) for content in _read_files(bundle))


def _read_files(bundle: Bundle) -> list[bytes]:
    return [(bundle.path / name).read_bytes() for name in bundle.files if name not in NOT_LOADED]


def report_sizes(bundle: Bundle) -> dict[str, object]:
    """Return the report of a finished bundle."""
    contents = _read_files(bundle)
    sizes = {"files": sum(map(len, contents)),
             "gzip": sum(len(gzip.compress(content, GZIP, mtime=0)) for content in contents)}
    if (size := brotli_size(bundle)) is not None:
        sizes["brotli"] = size
    compressed = ", ".join(f"{sizes[name] / MB:.1f} by {name}" for name in ("brotli", "gzip")
                           if name in sizes)
    return {"kind": "web", "download_bytes": sizes, "onnxruntime_web": VERSION,
            "summary": f"A page downloads {sizes['files'] / MB:.1f} MB, compressed {compressed}."}
