"""Parts of a bundle with wrong sizes in their headers, but with valid hashes, as an attacker could create
them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from satexport.bundle.folder import CALIBRATION, GOLDEN, INITIAL_CACHE, LABELS, MANIFEST, write_arrays
from tests.bundle.copies import GRAPH, copy_of, reseal
from tests.commands.calls import call


def npy(shape: tuple[int, ...], data: bytes = b"") -> bytes:
    """A .npy whose header announces a shape, whatever follows."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return buffer.getvalue() + data


def zipped(**parts: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(f"{name}.npy", part)
    return buffer.getvalue()


def outside(path: Path, location: str) -> None:
    """Move the largest weight of a graph to another file."""
    model = onnx.load(path)
    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(10**12))):
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())


Spoil = Callable[[Path], object]
SPOILED: dict[str, tuple[str, Spoil, str]] = {
    "golden chunks of 4 TB": (GOLDEN, lambda p: p.write_bytes(
        zipped(audio=npy((10**12,)), scores=npy((1, 527)))), "golden.npz is damaged"),
    "golden chunks of 80 MB of zeros": (GOLDEN, lambda p: p.write_bytes(
        zipped(audio=npy((2 * 10**7,), bytes(8 * 10**7)), scores=npy((1, 527)))),
        "it unpacks to 80 MB, expected at most 64"),
    "golden chunks with objects": (GOLDEN, lambda p: np.savez(
        p, audio=np.array([{}], object), scores=np.zeros(1)), "golden.npz is damaged"),
    "golden chunks that are no array": (GOLDEN, lambda p: p.write_bytes(
        zipped(audio=b"RIFF", scores=npy((1,), bytes(4)))), "(audio is not an array of numbers)"),
    "golden chunks that are texts": (GOLDEN, lambda p: np.savez(
        p, audio=np.array(["a"]), scores=np.zeros(1)), "(audio is not an array of numbers)"),
    "labels in another encoding": (LABELS, lambda p: p.write_bytes(p.read_bytes().decode().encode("utf-16")),
                                   "bundle.json is damaged (UnicodeDecodeError"),
    "golden chunks of another shape": (GOLDEN, lambda p: write_arrays(
        p, {"audio": np.zeros((0, 32_000), np.int16), "scores": np.zeros((0, 527), np.float32)}),
        "has audio"),
    "a cache of 4 TB": (INITIAL_CACHE, lambda p: p.write_bytes(npy((10**12,))), "initial_cache.npy"),
    "a cache of a negative size": (INITIAL_CACHE, lambda p: p.write_bytes(npy((-1,))), "initial_cache.npy"),
    "weights of another folder": (GRAPH, lambda p: outside(p, "../../../etc/passwd"), "cannot load"),
    "weights at an absolute path": (GRAPH, lambda p: outside(p, "/etc/passwd"), "cannot load"),
}


@pytest.mark.parametrize(("name", "spoil", "words"), SPOILED.values(), ids=SPOILED)
def test_a_part_with_a_wrong_length_in_its_header_is_refused(
        name: str, spoil: Spoil, words: str, demo: Path, tmp_path: Path) -> None:
    bundle = copy_of(demo, tmp_path)
    spoil(bundle / name)
    reseal(bundle)
    found = call("parity", bundle, "--golden")
    assert (found.code, words in found.err, len(found.err) < 600) == (4, True, True), found.err


def test_weights_outside_an_export_are_refused_without_a_traceback(demo: Path, tmp_path: Path) -> None:
    bundle = copy_of(demo, tmp_path)
    outside(bundle / GRAPH, "../../../etc/passwd")
    reseal(bundle)
    found = call("cpu", "--fp32", "--no-measure", "--minutes", 0.1, "--from", bundle, "--output", tmp_path)
    assert (found.code, "model.onnx cannot be read" in found.err) == (4, True), found.err
    assert not (bundle.parent / "cpu-fp32").exists()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, f'{{"a": {"9" * 5000}}}', "[]", "1e999",
                                  f'{{"a": "{"x" * 1_000_000}"}}'], ids=lambda text: text[:6])
def test_a_manifest_of_any_depth_or_length_is_reported_as_damaged(
        text: str, demo: Path, tmp_path: Path) -> None:
    bundle = copy_of(demo, tmp_path)
    (bundle / MANIFEST).write_text(text)
    found = call("run", bundle, "x.wav")
    assert (found.code, "bundle.json is damaged" in found.err, len(found.err) < 600) == (4, True, True)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "{", '{"clips_sha256": 3}', '{"clips_sha256": [3]}',
                                  '{"int8": []}', "9" * 5000], ids=lambda text: text[:22])
def test_an_invalid_calibration_record_is_reported_as_damaged(text: str, demo: Path, tmp_path: Path) -> None:
    bundle = copy_of(demo, tmp_path)
    (bundle / CALIBRATION).write_text(text)
    reseal(bundle)
    found = call("parity", bundle, "--minutes", 0.1, "--report", tmp_path / "r.json")
    assert (found.code, "calibration.json is damaged" in found.err) == (4, True), found.err
