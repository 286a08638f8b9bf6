"""Write the files of a web bundle: the graph, the page and the module, ONNX Runtime Web, and the licences."""

from __future__ import annotations

import shutil
from importlib import metadata
from importlib.resources import files
from pathlib import Path

import onnx

from satexport.backends.web.runtime import find_runtime
from satexport.errors import RunError
from satexport.files import PACKAGE_FOLDER, write_bytes

GRAPH = "model.onnx"
MIN_EXTERNAL_BYTES = 16_384  # smaller weights stay in the graph's own file
STATIC = "static"            # folder in this package
ATTRIBUTION = "ATTRIBUTION.md"  # of the labels, from satexport/data
LICENCES = {"LICENSE": "LICENSE.onnxruntime.txt", "ThirdPartyNotices.txt": "ThirdPartyNotices.txt"}
# of Python's package `onnxruntime`, because npm's has none, and their names in a bundle


def write_bundle_files(folder: Path, model: onnx.ModelProto) -> str:
    """Write the files of a bundle; returns the name of the graph's file. Raises `RunError` if the installed
    ONNX Runtime has no licence to pass on, and the errors of `find_runtime`."""
    onnx.save_model(model, folder / GRAPH, save_as_external_data=True, location=f"{GRAPH}.data",
                    size_threshold=MIN_EXTERNAL_BYTES)
    for path in find_runtime():
        shutil.copyfile(path, folder / path.name)
    for source in (files(__package__) / STATIC).iterdir():
        write_bytes(folder / source.name, source.read_bytes())
    shutil.copyfile(PACKAGE_FOLDER / "data" / ATTRIBUTION, folder / ATTRIBUTION)
    for name, copy in LICENCES.items():
        write_bytes(folder / copy, _find_licence(name))
    return GRAPH


def _find_licence(name: str) -> bytes:
    """Return a text about the licence of ONNX Runtime from its Python package."""
    path = Path(str(metadata.distribution("onnxruntime").locate_file(f"onnxruntime/{name}")))
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}), which must travel with ONNX Runtime Web: "
                       "install onnxruntime again.") from None
