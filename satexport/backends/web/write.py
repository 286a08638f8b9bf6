"""Write the files of a web bundle: the graph, the page and the module, ONNX Runtime Web, and the licences."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import onnx

from satexport.backends.web.runtime import find_runtime
from satexport.errors import RunError
from satexport.files import PACKAGE_FOLDER, write_bytes
from satexport.graph.files import write_with_weights
from satexport.runtimes import import_runtime

STATIC = "static"  # folder in this package


def write_bundle_files(folder: Path, model: onnx.ModelProto) -> str:
    """Write the files of a bundle; returns the name of the graph's file. Raises `RunError` if a licence that
    must be passed on is not installed, and the errors of `find_runtime`."""
    for path in find_runtime():
        write_bytes(folder / path.name, path.read_bytes())
    for source in (files(__package__) / STATIC).iterdir():
        write_bytes(folder / source.name, source.read_bytes())
    for name, original in _find_licences().items():
        try:
            write_bytes(folder / name, original.read_bytes())
        except OSError as error:
            raise RunError(f"{original} cannot be read ({error.strerror}), and must travel with the bundle: "
                           "install satexport and onnxruntime again.") from None
    return write_with_weights(folder, model)


def _find_licences() -> Mapping[str, Path]:
    """Return the texts about licences by their names in a bundle: of satexport, whose page and module it has,
    of the labels, and of ONNX Runtime, from its Python package, because npm's has none."""
    onnxruntime = Path(import_runtime("onnxruntime").__file__).parent
    own = PACKAGE_FOLDER / "data" / "LICENSE"  # in a wheel; in a checkout it is beside the package
    return {"LICENSE.satexport.txt": own if own.is_file() else PACKAGE_FOLDER.parent / "LICENSE",
            "ATTRIBUTION.md": PACKAGE_FOLDER / "data" / "ATTRIBUTION.md",
            "LICENSE.onnxruntime.txt": onnxruntime / "LICENSE",
            "ThirdPartyNotices.txt": onnxruntime / "ThirdPartyNotices.txt"}
