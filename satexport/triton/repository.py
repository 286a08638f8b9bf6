"""Write a model repository for Triton from bundles, one folder for each model:

    NAME/config.pbtxt        see `satexport.triton.config`
    NAME/1/                  model.onnx and its weights, or model.plan
    NAME/initial_state/      the caches after silence, a file each: little-endian, row by row, no header
    NAME/labels.txt          one class per line, in the order of the scores
    NAME/warm_up.json        for a model with a cache: a request of one silent chunk, for curl

A folder is replaced only if satexport wrote it, and as a whole.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from satexport.bundle.contract import ANY, Contract, state_bytes
from satexport.bundle.folder import LABELS, Bundle, labels_text, open_bundle
from satexport.bundle.places import check_outside
from satexport.errors import BundleError, UsageError
from satexport.files import read_at_most, sha256_of, staged_folder, write_bytes, write_text
from satexport.terminal import shown
from satexport.triton.bundles import TABLES, check_served, engine_path
from satexport.triton.config import INITIAL_STATE, MARK, TYPES, ModelFacts, config_text
from satexport.triton.serving import Serving, find_serving
from satexport.version import __version__

CONFIG = "config.pbtxt"
VERSION = "1"            # of the model, and its folder
WARM_UP = "warm_up.json"
FILES = frozenset({CONFIG, VERSION, INITIAL_STATE, LABELS, WARM_UP})  # all that a folder may have
MAX_CONFIG = 1_000_000   # bytes
SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}")  # a name that is a file on every system


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A model in a repository."""

    name: str
    path: Path           # of its folder
    bundle: Bundle
    serving: Serving
    max_batch_size: int  # microphones in one step, at most

    @property
    def state_bytes(self) -> int:
        """One copy of the state of a microphone, bytes, of which the server keeps two; earlier audio of a
        window stays in the client."""
        return 0 if not self.bundle.contract.cache_in else state_bytes(self.bundle.contract)

    def to_json(self) -> dict[str, Any]:
        bundle = self.bundle
        return {"name": self.name, "path": str(self.path), "bundle": str(bundle.path),
                "bundle_sha256": bundle.sha256, "variant": bundle.contract.variant,
                "target": bundle.target.name, "precision": bundle.target.precision,
                "runtime": bundle.target.backend, "serving": self.serving.name,
                "max_batch_size": self.max_batch_size, "states": len(bundle.contract.cache_in),
                "state_bytes": self.state_bytes}


def write_repository(folder: Path, paths: Sequence[Path], serving: str | None = None,
                     name: str | None = None) -> list[ServedModel]:
    """Write bundles into a repository, which may have other models, and return what was written. `serving`
    is the name or file of a serving table, by default the usual one of each bundle's backend; `name` is the
    name of the only model, by default that of its variant.

    All bundles are checked before anything is written. Raises the errors of `check_served` and
    `find_serving`, `BundleError` for a damaged bundle, `UsageError` for names that clash or cannot be used
    and a folder inside a bundle, `RunError` if a folder there is not satexport's or cannot be written.
    """
    if name and len(paths) > 1:
        raise UsageError(f"--name {name} is for one bundle; found {len(paths)}. Pass them one by one: a "
                         "repository keeps the models that are in it.")
    if name and not SAFE.fullmatch(name):
        raise UsageError(f"--name {shown(name)}: expected a name of letters, digits and . + - _")
    models = [_plan(folder, path, serving, name) for path in paths]
    _check_names(models)
    for model in models:
        check_outside(model.path)
    with ExitStack() as stages:
        for model in models:
            stage = stages.enter_context(staged_folder(model.path, _may_replace))
            _write(stage, model)
    return models


def _plan(folder: Path, path: Path, serving: str | None, name: str | None) -> ServedModel:
    """Open and check a bundle."""
    bundle = open_bundle(path)
    table = find_serving(serving or TABLES.get(bundle.target.backend, TABLES["onnxruntime"]))
    check_served(bundle, table)
    contract, is_batched = bundle.contract, bundle.contract.options.streams == ANY
    for text in (contract.variant, *(spec.name for spec in contract.cache_in)):
        if not SAFE.fullmatch(text):
            raise BundleError(f"{path}: {shown(text)} cannot be the name of a file; expected letters, "
                              "digits and . + - _. Export the bundle again.")
    return ServedModel(name=name or contract.variant, path=folder / (name or contract.variant),
                       bundle=bundle, serving=table, max_batch_size=table.max_batch_size if is_batched else 1)


def _check_names(models: Sequence[ServedModel]) -> None:
    """Raise `UsageError` if two models have the same name, also on a file system that ignores case."""
    counts = Counter(model.name.casefold() for model in models)
    if clash := [model for model in models if counts[model.name.casefold()] > 1]:
        found = " and ".join(str(model.bundle.path) for model in clash)
        raise UsageError(f"{found} are both {clash[0].name}, the name of the model in the server. Write one "
                         "of them by a command of its own with the same --output, and --name to choose "
                         f"another name, such as --name {clash[-1].name}-{clash[-1].bundle.target.name}.")


def _may_replace(path: Path) -> bool:
    """Whether a folder is empty, or a model that satexport wrote, with nothing of other people's in it."""
    if not path.is_dir():
        return False
    if not (present := {entry.name for entry in path.iterdir()}):
        return True
    if not present <= FILES or CONFIG not in present:
        return False
    return read_at_most(path / CONFIG, MAX_CONFIG).startswith(MARK.encode())


def _write(folder: Path, model: ServedModel) -> None:
    bundle, contract = model.bundle, model.bundle.contract
    facts = ModelFacts(name=model.name, runtime=bundle.target.backend, target=bundle.target.name,
                       precision=bundle.target.precision, bundle_sha256=bundle.sha256, version=__version__)
    write_text(folder / CONFIG, config_text(contract, model.serving, facts))
    write_text(folder / LABELS, labels_text(bundle.labels))
    (folder / VERSION).mkdir()
    if bundle.target.backend == "tensorrt":
        shutil.copyfile(engine_path(bundle), folder / VERSION / "model.plan")
    else:
        _copy_graph(bundle, folder / VERSION)
    for spec, array in zip(contract.cache_in, bundle.initial_cache(), strict=True):
        write_bytes(folder / INITIAL_STATE / spec.name,
                    array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    if contract.cache_in:
        write_text(folder / WARM_UP, json.dumps(warm_up_request(contract), separators=(",", ":")))


def _copy_graph(bundle: Bundle, folder: Path) -> None:
    """Copy a graph and its weights, which the graph finds by their name. Raises `BundleError` if they have
    changed since the bundle was opened."""
    for name in (name for name in bundle.files if name.startswith(f"{bundle.graph.stem}.")):
        shutil.copyfile(bundle.path / name, folder / name)
        if sha256_of(folder / name) != bundle.files[name]:
            raise BundleError(f"{bundle.path / name} was overwritten while it was copied. Try again.")


def warm_up_request(contract: Contract) -> dict[str, Any]:
    """Return a request for Triton's HTTP port: one silent chunk, as a sequence that begins and ends with it.
    The server creates its memory and threads at the first request, which is slow."""
    spec = contract.input
    shape, datatype = [1, *spec.shape[1:]], TYPES[spec.dtype].removeprefix("TYPE_")
    return {"inputs": [{"name": spec.name, "shape": shape, "datatype": datatype,
                        "data": [0] * prod(shape)}],
            "outputs": [{"name": contract.scores.name}],
            "parameters": {"sequence_id": "warm-up", "sequence_start": True, "sequence_end": True}}
