"""The bundle: the folder that goes to the device. It is complete, or it does not exist.

    model.onnx          the graph of one step, with the contract in its metadata
    model.onnx.data     CPU bundle: the weights, which the runtime maps into memory
    model.xml, .bin     OpenVINO bundle, instead of these two
    int8.onnx, fp16.onnx, build.sh, runtime.zip   TensorRT build bundle, instead of model.onnx, and
                        golden_graphs.npz, the outputs of those graphs for the golden chunks
    initial_cache.npy   the cache of one stream after silence, if the model has one: all cache inputs in the
                        contract's order, concatenated to a flat array
    labels.txt          one class per line, in the order of the scores
    golden.npz          audio [N, samples] int16 and PyTorch's scores [N, classes] float32
    calibration.json    if it was calibrated: the set, its clips, the ranges and layers
    bundle.json         contract, target with its gates, number of operations, roles of the graph's nodes,
                        SHA-256 and size of every file above, and under "seal" the SHA-256 of bundle.json
                        itself, computed with an empty seal

The folder also has the files built on a board (int8.engine or fp16.engine, engine.json) and the folder
reports/: export.json, what the export did and verified, and all later reports about the bundle. These are not
parts of the bundle.

Reading a bundle imports only numpy. No part contains a time or a path, so that the same checkpoint gives the
same bytes.
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
from satexport.bundle.target import Gates, Target
from satexport.errors import BundleError, DataError
from satexport.files import json_text, read_at_most, sha256_of, write_json
from satexport.step import PCM_SCALE, Outputs
from satexport.terminal import shown

MANIFEST = "bundle.json"
LABELS = "labels.txt"
INITIAL_CACHE = "initial_cache.npy"
GOLDEN = "golden.npz"
GRAPH_SCORES = "golden_graphs.npz"
CALIBRATION = "calibration.json"
REPORTS = "reports"  # folder of the reports about a bundle; not a part of it
BUILT = ("engine.json", "int8.engine", "fp16.engine")  # built on a board; not parts of the bundle
MAX_MANIFEST = 1_000_000  # bytes; a typical one has 11,000
MAX_CALIBRATION = 10_000_000  # bytes; about 100 per clip and per range
MAX_ARRAYS = 64_000_000   # bytes of an unpacked .npz; golden chunks of 10 s have 2 MB


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle on disk whose parts match their hashes."""

    path: Path
    contract: Contract
    target: Target
    graph: Path
    labels: tuple[str, ...]
    operations: dict[str, int]  # for one chunk of one stream, see satexport.graph.operations
    sha256: str  # of bundle.json, which contains the hashes of all parts
    roles: Roles  # of the nodes of the ONNX graph, see satexport.graph.roles
    files: Mapping[str, str]  # name of each part except bundle.json -> SHA-256

    @property
    def reports(self) -> Path:
        """The folder for reports about this bundle."""
        return self.path / REPORTS

    @property
    def graph_bytes(self) -> int:
        """Size of the graph's file, plus that of its weights if they have a separate file."""
        return sum((self.path / name).stat().st_size for name in self.files
                   if name.startswith(f"{self.graph.stem}."))  # an engine is not in `files`

    def initial_cache(self) -> Iterable[NDArray[Any]]:
        """The cache of one stream after silence, in the order and dtype of the contract; empty for a model
        without a cache. Raises `BundleError` if the file is damaged or does not match the contract."""
        if not (specs := self.contract.cache_in):
            return ()
        return InitialCache(self.path / INITIAL_CACHE, specs, self.files.get(INITIAL_CACHE, ""))

    @property
    def gates(self) -> Gates:
        """The gates of its target for its contract."""
        return self.target.gates.for_family(self.contract.family)

    def calibrated_on(self) -> frozenset[str]:
        """SHA-256 of the clips that the graph was calibrated on; these must not be used for its gates."""
        return frozenset(self._read_calibration()["clips_sha256"])

    def int8_layers(self) -> int:
        """The number of int8 layers according to calibration.json; 0 if there is none."""
        return len(self._read_calibration().get("int8", ()))

    def calibration_set(self) -> dict[str, Any]:
        """What calibration.json says about the set: name, licence, number of clips; {} if there is none."""
        facts = self._read_calibration().get("set")
        return facts if isinstance(facts, dict) else {}

    def _read_calibration(self) -> dict[str, Any]:
        """The content of calibration.json, without clips if there is none. Raises `BundleError` if it is
        damaged."""
        path = self.path / CALIBRATION
        try:
            content: dict[str, Any] = json.loads(read_at_most(path, MAX_CALIBRATION))
            texts = *content["clips_sha256"], *content.get("int8", ())
            if not all(isinstance(text, str) for text in texts):
                raise TypeError("clips_sha256 and int8 must be lists of strings")
        except FileNotFoundError:
            return {"clips_sha256": []}
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OSError) as error:
            raise BundleError(f"{path} is damaged ({shown(error)}). Make the bundle again.") from None
        return content

    def arrays(self, name: str, keys: list[str]) -> list[NDArray[Any]]:
        """Read arrays from one of its .npz files. Raises `BundleError` if one is missing or damaged."""
        return _read_arrays(self.path / name, keys)

    def golden(self) -> tuple[NDArray[np.float32], Outputs]:
        """Consecutive chunks of one stream that starts from silence, audio [N, samples] in [-1, 1], and
        PyTorch's outputs for them, [N, ...] each. Raises `BundleError` if they are damaged."""
        specs = self.contract.outputs
        names = ["audio", *Outputs._fields[:len(specs)]]
        audio, *outputs = arrays = _read_arrays(self.path / GOLDEN, names)
        expected = [(len(audio), size) for size in (self.contract.hop_samples, *(s.shape[1] for s in specs))]
        for name, array, shape in zip(names, arrays, expected, strict=True):
            if not len(audio) or array.shape != shape:
                raise BundleError(f"{self.path / GOLDEN} has {name} {array.shape}, expected [N, {shape[1]}]. "
                                  "Export it again.")
        return (audio / PCM_SCALE).astype(np.float32), Outputs(*outputs)


def open_bundle(path: str | Path) -> Bundle:
    """Read and check a bundle. Raises `BundleError` if a part is missing, modified or not listed."""
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
        raise BundleError(f"{path / LABELS} does not contain the {contract.classes} labels that the graph "
                          "was exported with. Export it again.")
    return Bundle(path=path, contract=contract, target=target, graph=path / graph, labels=tuple(labels),
                  operations=operations, roles=roles, sha256=hashlib.sha256(text).hexdigest(),
                  files={name: facts["sha256"] for name, facts in files.items()})


def holds_bundle(folder: Path) -> bool:
    """Whether a folder is a bundle, of any version, complete or not. Other programs also write files named
    bundle.json; that of a bundle has the keys `schema` and `seal`."""
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
            raise BundleError(f"{path}: {found}. Expected a bundle, the folder that `satexport onnx` writes, "
                              f"such as build/sat-t-2s/onnx.{hint}")
        text = read_at_most(path / MANIFEST, MAX_MANIFEST)
        manifest = json.loads(text)
    except FileNotFoundError:
        inside = ", ".join(sorted(folder.name for folder in path.glob("*") if holds_bundle(folder)))
        hint = f" Pass one of the bundles in it: {inside}." if inside else ""
        raise BundleError(f"{path} is not a bundle: it has no {MANIFEST}.{hint}") from None
    except (ValueError, RecursionError, OSError) as error:
        raise BundleError(f"{path / MANIFEST} is damaged ({error}). Export it again.") from None
    if not isinstance(manifest, dict):
        raise BundleError(f"{path / MANIFEST} is damaged (not a JSON object). Export it again.")
    check_schema(str(path), manifest.get("schema"))
    seal = str(manifest.get("seal")).encode(errors="backslashreplace")  # UTF-8 cannot encode every string
    if hashlib.sha256(text.replace(seal, b"")).hexdigest().encode() != seal:
        raise BundleError(f"{path / MANIFEST} was modified: its SHA-256 does not match its seal. "
                          "Copy the whole folder again, or export again.")
    return text, manifest


def _check_files(path: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    allowed = {*files, *BUILT, MANIFEST, REPORTS}
    present = {p.name for p in path.iterdir() if not p.name.startswith(".")}
    if unlisted := sorted(present - allowed):
        raise BundleError(f"{path} contains {', '.join(unlisted[:3])}, which {MANIFEST} does not list. "
                          f"Move it out of the bundle (a report: into {REPORTS}/), or export again.")
    for name, facts in files.items():
        if name not in present:
            raise BundleError(f"{path}: {name} is missing. Copy the whole folder again.")
        size = (path / name).stat().st_size
        if size != facts["bytes"]:
            raise BundleError(f"{path / name} has {size} bytes, {MANIFEST} lists {facts['bytes']}. "
                              "Copy the whole folder again, or export again.")
        if sha256_of(path / name) != facts["sha256"]:
            raise BundleError(f"{path / name} was modified: its SHA-256 does not match {MANIFEST}. "
                              "Copy the whole folder again, or export again.")


def _read_arrays(path: Path, names: list[str]) -> list[NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as parts:  # numpy reads no more of a part than the size listed here
            if (size := sum(part.file_size for part in parts.infolist())) > MAX_ARRAYS:
                raise ValueError(f"it unpacks to {size / 1e6:.0f} MB, expected at most {MAX_ARRAYS / 1e6:g}")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            arrays = [content[name] for name in names]
        if invalid := [name for name, array in zip(names, arrays, strict=True)
                       if not isinstance(array, np.ndarray) or array.dtype.kind not in "fi"]:
            raise ValueError(f"{invalid[0]} is not an array of numbers")
        return arrays
    except Exception as error:  # numpy, zipfile and zlib have no other base class in common
        raise BundleError(f"{path} is damaged ({error}). Export it again.") from None


def bundle_path(folder: Path, contract: Contract, target: Target) -> Path:
    """`folder/<variant>/<target>`, with the options that are not defaults in its name (`onnx-hidden-x8`,
    `onnx-opset17`)."""
    opset = "" if contract.opset == DEFAULT_OPSET else f"-opset{contract.opset}"
    return folder / contract.variant / f"{target.name}{contract.options.suffix}{opset}"


def write_initial_cache(folder: Path, cache: Iterable[NDArray[Any]]) -> None:
    """Write the cache of one stream after silence; writes nothing for a model without a cache."""
    if values := [array.reshape(-1) for array in cache]:
        np.save(folder / INITIAL_CACHE, np.concatenate(values))


def write_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write an .npz file. numpy stores no time in it, so that equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    path.write_bytes(buffer.getvalue())


def labels_text(labels: Sequence[str]) -> str:
    """The content of labels.txt."""
    return "".join(f"{label}\n" for label in labels)


def labels_sha256(labels: Sequence[str]) -> str:
    """The SHA-256 of labels.txt, for the contract."""
    return hashlib.sha256(labels_text(labels).encode()).hexdigest()


def write_manifest(folder: Path, contract: Contract, target: Target, graph: str,
                   operations: Mapping[str, int], roles: Roles) -> None:
    """Write bundle.json for all files in a staged folder, without those in reports/."""
    files = {p.name: {"bytes": p.stat().st_size, "sha256": sha256_of(p)}
             for p in sorted(folder.iterdir()) if p.is_file() and p.name not in BUILT}
    manifest = {"schema": contract.schema, "seal": "", "graph": graph, "contract": contract.to_dict(),
                "target": target.to_dict(), "operations": dict(operations), "roles": roles_to_json(roles),
                "files": files}
    manifest["seal"] = hashlib.sha256(json_text(manifest).encode()).hexdigest()
    write_json(folder / MANIFEST, manifest)
