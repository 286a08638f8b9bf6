"""The bundle: the folder that goes to the device, complete or not there at all.

    model.onnx          the graph of one step, the contract in its metadata
    model.onnx.data     of a CPU bundle: the weights, which the runtime maps into memory
    model.xml, .bin     of an OpenVINO bundle, in place of both
    int8.onnx, fp16.onnx, build.sh, runtime.zip   of a build bundle for TensorRT, in place of model.onnx, and
                        golden_graphs.npz, what those graphs make of the golden chunks
    initial_cache.npy   the cache of one stream after silence: the cache inputs one after another, in the
                        contract's order, as one flat array (models with a cache)
    labels.txt          one class per line, in the order of the scores
    golden.npz          audio [N, samples] int16 and PyTorch's scores [N, classes] float32
    calibration.json    where it was calibrated: on which set, its clips, ranges, layers
    bundle.json         contract, target with its gates, the graph's operations and the roles of its nodes,
                        SHA-256 and size of every file above, and under "seal" its own SHA-256 with that
                        value empty

Beside these parts lie what is built on a board (int8.engine or fp16.engine, engine.json) and the folder
reports/: export.json, what the export did and proved, and whatever else is written about the bundle later.

Reading imports numpy alone. No part carries a time or a path, so that the same checkpoint gives the same
bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satexport.bundle.contract import DEFAULT_OPSET, Contract, check_schema
from satexport.bundle.initial_cache import InitialCache
from satexport.bundle.roles import Roles, roles_from_json, roles_to_json
from satexport.bundle.target import Target
from satexport.errors import BundleError, DataError
from satexport.files import json_text, read_at_most, sha256_of, write_json
from satexport.step import PCM_SCALE
from satexport.terminal import shown

MANIFEST = "bundle.json"
LABELS = "labels.txt"
INITIAL_CACHE = "initial_cache.npy"
GOLDEN = "golden.npz"
GRAPH_SCORES = "golden_graphs.npz"
CALIBRATION = "calibration.json"
REPORTS = "reports"  # the folder of what is written about a bundle; no part of it
BUILT = ("engine.json", "int8.engine", "fp16.engine")  # on a board, of its parts
MAX_MANIFEST = 1_000_000  # bytes; one has 11,000
MAX_CALIBRATION = 10_000_000  # bytes; clips and ranges have 100 each
MAX_ARRAYS = 64_000_000   # bytes of an .npz, unpacked; golden chunks of 10 s have 2 MB


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle on disk whose parts were checked against their hashes."""

    path: Path
    contract: Contract
    target: Target
    graph: Path
    labels: tuple[str, ...]
    operations: dict[str, int]  # of one chunk of one stream, see satexport.graph.operations
    sha256: str  # of bundle.json, and with it of everything
    roles: Roles  # of the graph's nodes, before a runtime's own format: see satexport.graph.roles
    files: Mapping[str, str]  # its parts but bundle.json -> SHA-256

    @property
    def reports(self) -> Path:
        """The folder for what is written about it."""
        return self.path / REPORTS

    @property
    def graph_bytes(self) -> int:
        """Size of the graph's file, and of that of its weights where they have one of their own."""
        return sum((self.path / name).stat().st_size for name in self.files
                   if name.startswith(f"{self.graph.stem}."))  # an engine beside them is no part

    def initial_cache(self) -> Iterable[NDArray[Any]]:
        """The cache of one stream after silence, in the order and dtype of the contract; empty for a model
        without one. Raises `BundleError` where the file is damaged or does not fit."""
        if not (specs := self.contract.cache_in):
            return ()
        return InitialCache(self.path / INITIAL_CACHE, specs, self.files.get(INITIAL_CACHE, ""))

    def calibrated_on(self) -> frozenset[str]:
        """SHA-256 of the clips that the graph was calibrated on; they must not gate it."""
        return frozenset(self._calibration()["clips_sha256"])

    def int8_layers(self) -> int:
        """How many layers are int8 by calibration.json; 0 where there is none."""
        return len(self._calibration().get("int8", ()))

    def _calibration(self) -> dict[str, Any]:
        """calibration.json, empty where there is none. Raises `BundleError` where it is damaged."""
        path = self.path / CALIBRATION
        try:
            content: dict[str, Any] = json.loads(read_at_most(path, MAX_CALIBRATION))
            texts = *content["clips_sha256"], *content.get("int8", ())
            if not all(isinstance(text, str) for text in texts):
                raise TypeError("clips_sha256 and int8 are lists of texts")
        except FileNotFoundError:
            return {"clips_sha256": []}
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OSError) as error:
            raise BundleError(f"{path} is damaged ({shown(error)}). Make the bundle again.") from None
        return content

    def arrays(self, name: str, keys: list[str]) -> list[NDArray[Any]]:
        """Arrays of one of its .npz files. Raises `BundleError` where they are not there."""
        return _read_arrays(self.path / name, keys)

    def golden(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Consecutive chunks of one stream from silence, audio [N, samples] in [-1, 1], and
        PyTorch's scores of them, [N, classes]."""
        audio, scores = _read_arrays(self.path / GOLDEN, ["audio", "scores"])
        chunks, samples, classes = len(audio), self.contract.hop_samples, self.contract.classes
        if not chunks or (audio.shape, scores.shape) != ((chunks, samples), (chunks, classes)):
            raise BundleError(f"{self.path / GOLDEN} holds audio {audio.shape} and scores {scores.shape}, "
                              f"expected [N, {samples}] and [N, {classes}]. Export it again.")
        return (audio / PCM_SCALE).astype(np.float32), scores


def open_bundle(path: str | Path) -> Bundle:
    """Read and check a bundle; raises `BundleError` where a part is missing, changed or foreign."""
    path = Path(path)
    text, manifest = _read_manifest(path)
    try:
        files, contract = manifest["files"], Contract.from_dict(manifest["contract"])
        target, graph = Target.from_dict(manifest["target"], path), manifest["graph"]
        operations = {part: int(manifest["operations"][part]) for part in ("model", "front_end")}
        roles = roles_from_json(manifest["roles"])
        if graph not in files:
            raise BundleError(f"{path / MANIFEST} is damaged (no SHA-256 of {graph}). Export it again.")
        _check_files(path, files)
        labels = (path / LABELS).read_bytes().decode("utf-8").split("\n")[:-1]  # as labels_text writes them
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, DataError) as error:
        raise BundleError(f"{path / MANIFEST} is damaged ({shown(error)}). Export it again.") from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error}).") from None
    if len(labels) != contract.classes or labels_sha256(labels) != contract.labels_sha256:
        raise BundleError(f"{path / LABELS} is not the list of {contract.classes} labels that the graph "
                          "was exported with. Export it again.")
    return Bundle(path=path, contract=contract, target=target, graph=path / graph, labels=tuple(labels),
                  operations=operations, roles=roles, sha256=hashlib.sha256(text).hexdigest(),
                  files={name: facts["sha256"] for name, facts in files.items()})


def holds_bundle(folder: Path) -> bool:
    """Is a folder a bundle, of any version and whether whole or not? Others, too, call a file bundle.json;
    a bundle's has the keys `schema` and `seal`."""
    path = folder / MANIFEST
    with suppress(OSError):
        text = read_at_most(path, MAX_MANIFEST) if os.path.isfile(path) else b""
        return b'"schema"' in text and b'"seal"' in text
    return False


def _read_manifest(path: Path) -> tuple[bytes, dict[str, Any]]:
    try:
        if not path.is_dir():
            found = "is a file" if path.exists() else "no such folder"
            hint = f" Pass {path.parent}." if path.exists() and holds_bundle(path.parent) else ""
            raise BundleError(f"{path}: {found}. A bundle is the folder that `satexport onnx` writes, such "
                              f"as build/sat-t-2s/onnx.{hint}")
        text = read_at_most(path / MANIFEST, MAX_MANIFEST)
        manifest = json.loads(text)
    except FileNotFoundError:
        inside = ", ".join(sorted(there.name for there in path.glob("*") if holds_bundle(there)))
        hint = f" It holds the bundles {inside}." if inside else ""
        raise BundleError(f"{path} has no {MANIFEST}, so it is no bundle.{hint}") from None
    except (ValueError, RecursionError, OSError) as error:
        raise BundleError(f"{path / MANIFEST} is damaged ({error}). Export it again.") from None
    if not isinstance(manifest, dict):
        raise BundleError(f"{path / MANIFEST} is damaged (no object). Export it again.")
    check_schema(str(path), manifest.get("schema"))
    seal = str(manifest.get("seal")).encode(errors="backslashreplace")  # it may be no text that UTF-8 has
    if hashlib.sha256(text.replace(seal, b"")).hexdigest().encode() != seal:
        raise BundleError(f"{path / MANIFEST} was changed: its SHA-256 is not the one in its seal. "
                          "Copy the whole folder again, or export again.")
    return text, manifest


def _check_files(path: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    known = {*files, *BUILT, MANIFEST, REPORTS}
    found = {p.name for p in path.iterdir() if not p.name.startswith(".")}
    if foreign := sorted(found - known):
        raise BundleError(f"{path} holds {', '.join(foreign[:3])}, which {MANIFEST} does not list. "
                          f"Move it out of the bundle, a report into {REPORTS}/, or export again.")
    for name, facts in files.items():
        if name not in found:
            raise BundleError(f"{path} lacks {name}. Copy the whole folder again.")
        size = (path / name).stat().st_size
        if size != facts["bytes"]:
            raise BundleError(f"{path / name} has {size} bytes, {MANIFEST} says {facts['bytes']}. "
                              "Copy the whole folder again, or export again.")
        if sha256_of(path / name) != facts["sha256"]:
            raise BundleError(f"{path / name} was changed: its SHA-256 is not the one in {MANIFEST}. "
                              "Copy the whole folder again, or export again.")


def _read_arrays(path: Path, names: list[str]) -> list[NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as parts:  # each is read as far as its size there
            if (size := sum(part.file_size for part in parts.infolist())) > MAX_ARRAYS:
                raise ValueError(f"it unpacks to {size / 1e6:.0f} MB, expected at most {MAX_ARRAYS / 1e6:g}")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = [arrays[name] for name in names]
        if strange := [name for name, array in zip(names, found, strict=True)
                       if not isinstance(array, np.ndarray) or array.dtype.kind not in "fi"]:
            raise ValueError(f"{strange[0]} is no array of numbers")
        return found
    except Exception as error:  # numpy, zip and zlib have no common class but this
        raise BundleError(f"{path} is damaged ({error}). Export it again.") from None


def bundle_path(folder: Path, contract: Contract, target: Target) -> Path:
    """`folder/<variant>/<target>`, choices that are not the default in its name (`onnx-hidden-x8`,
    `onnx-opset17`)."""
    opset = "" if contract.opset == DEFAULT_OPSET else f"-opset{contract.opset}"
    return folder / contract.variant / f"{target.name}{contract.options.suffix}{opset}"


def write_initial_cache(folder: Path, cache: Iterable[NDArray[Any]]) -> None:
    """Write the cache of one stream after silence; nothing for a model without one."""
    if values := [array.reshape(-1) for array in cache]:
        np.save(folder / INITIAL_CACHE, np.concatenate(values))


def write_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write an .npz; numpy gives its entries no time of their own."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    path.write_bytes(buffer.getvalue())


def labels_text(labels: Sequence[str]) -> str:
    """The content of labels.txt."""
    return "".join(f"{label}\n" for label in labels)


def labels_sha256(labels: Sequence[str]) -> str:
    """The hash of labels.txt that stands in the contract."""
    return hashlib.sha256(labels_text(labels).encode()).hexdigest()


def write_manifest(folder: Path, contract: Contract, target: Target, graph: str,
                   operations: Mapping[str, int], roles: Roles) -> None:
    """Write bundle.json over all files that lie in a staged folder; reports/ is none."""
    files = {p.name: {"bytes": p.stat().st_size, "sha256": sha256_of(p)}
             for p in sorted(folder.iterdir()) if p.is_file() and p.name not in BUILT}
    manifest = {"schema": contract.schema, "seal": "", "graph": graph, "contract": contract.to_dict(),
                "target": target.to_dict(), "operations": dict(operations), "roles": roles_to_json(roles),
                "files": files}
    manifest["seal"] = hashlib.sha256(json_text(manifest).encode()).hexdigest()
    write_json(folder / MANIFEST, manifest)
