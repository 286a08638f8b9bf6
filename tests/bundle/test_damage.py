"""A damaged or modified bundle is never used, and the error says what is wrong with it."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from satexport.backends.onnxruntime import step as onnx_runtime
from satexport.backends.openvino import step as open_vino
from satexport.bundle.contract import PREFIX, SCHEMA
from satexport.bundle.folder import BUILT, GOLDEN, INITIAL_CACHE, LABELS, MANIFEST, open_bundle
from satexport.errors import BundleError, MissingError
from satexport.files import json_text
from satexport.parity.golden import run_golden
from satexport.step import FloatArray
from satexport.tagging.tagger import load
from tests import ROOT
from tests.bundle.copies import GRAPH, copy_of, manifest_of, reseal
from tests.tiny import DEPTH


@pytest.fixture
def vit(random_vit: Path, tmp_path: Path) -> Path:
    """A bundle to modify, without a cache."""
    return copy_of(random_vit, tmp_path)


@pytest.fixture
def sat(tiny: Path, tmp_path: Path) -> Path:
    """A bundle to modify, with a cache."""
    return copy_of(tiny, tmp_path)


def test_hidden_files_and_reports_are_allowed(sat: Path) -> None:
    for name in (".DS_Store", "._labels.txt", ".parity.json.partial", "reports/whatever.txt", *BUILT):
        (sat / name).write_text("{}")
    assert load(sat).contract.variant == sat.parent.name


# A part is incomplete.

def empty(part: Path) -> None:
    part.write_bytes(b"")


def truncate(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-100])


def lengthen(part: Path) -> None:
    part.write_bytes(part.read_bytes() + b"\n")


def give_windows_line_ends(part: Path) -> None:
    part.write_bytes(part.read_bytes().replace(b"\n", b"\r\n"))


def make_a_folder(part: Path) -> None:
    part.unlink()
    part.mkdir()


def make_a_broken_link(part: Path) -> None:
    part.unlink()
    part.symlink_to("gone")


@pytest.mark.parametrize("name", [MANIFEST, GRAPH, INITIAL_CACHE, LABELS, GOLDEN])
@pytest.mark.parametrize("spoil", [Path.unlink, empty, truncate, lengthen, give_windows_line_ends,
                                   make_a_folder, make_a_broken_link])
def test_an_incomplete_part_is_named(spoil: Callable[[Path], None], name: str, sat: Path) -> None:
    spoil(sat / name)
    with pytest.raises(BundleError, match=name):
        open_bundle(sat)


@pytest.fixture(scope="module")
def victim(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose bytes are changed and restored."""
    return copy_of(tiny, tmp_path_factory.mktemp("victim"))


@pytest.mark.parametrize("name", [MANIFEST, GRAPH, INITIAL_CACHE, LABELS, GOLDEN])
@settings(max_examples=25)
@given(data=st.data())
def test_every_changed_byte_is_detected(name: str, victim: Path, data: st.DataObject) -> None:
    part = victim / name
    place = data.draw(st.integers(0, part.stat().st_size - 1))
    change = data.draw(st.integers(1, 255))
    with part.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        try:
            file.seek(place)
            file.write(bytes([byte ^ change]))
            file.flush()
            with pytest.raises(BundleError, match=re.escape(str(victim))):
                open_bundle(victim)
        finally:
            file.seek(place)
            file.write(bytes([byte]))
    open_bundle(victim)


@pytest.mark.parametrize("name", ["notes.txt", "Thumbs.db", "__MACOSX", "parity.json"])
def test_an_unlisted_file_is_named(name: str, vit: Path) -> None:
    (vit / name).write_text("mine")
    with pytest.raises(BundleError, match=rf"contains {name}, which bundle\.json does not list"):
        open_bundle(vit)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe{\x00", b'{"schema": %d}' % SCHEMA,
                                  b'{"schema": %d, "seal": "\\ud800"}' % SCHEMA])
def test_an_invalid_manifest_is_an_error(text: bytes, vit: Path) -> None:
    (vit / MANIFEST).write_bytes(text)
    with pytest.raises(BundleError, match=MANIFEST):
        open_bundle(vit)


@pytest.mark.parametrize("dtype", ["\ud800", "float1", None, ["float32"]])
def test_a_contract_with_an_unknown_cache_dtype_is_an_error(dtype: object, sat: Path) -> None:
    manifest = manifest_of(sat) | {"seal": ""}
    manifest["contract"]["cache_in"][0]["dtype"] = dtype
    seal = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()  # with non-ASCII characters escaped
    (sat / MANIFEST).write_text(json.dumps(manifest | {"seal": seal}))
    with pytest.raises(BundleError, match=r"the contract is damaged \(dtype .*, expected one of float32"):
        open_bundle(sat)


@pytest.mark.parametrize(("key", "value", "words"), [
    ("schema", SCHEMA + 1, f"schema {SCHEMA + 1}, this version of satexport reads schema {SCHEMA}"),
    ("schema", None, "schema None"),
    ("files", None, "damaged"), ("files", [GRAPH], "damaged|does not list"),
    ("files", {GRAPH: {}}, "damaged|does not list"),
    ("contract", {}, "schema None"), ("contract", [], "damaged"),
    ("contract", {"schema": SCHEMA}, "damaged"),
    ("target", None, "damaged"), ("graph", 7, "damaged"),
    ("roles", None, r"damaged .*roles: expected a table of strings"),
    ("roles", ["mel/log"], "expected a table"),
    ("roles", {"mel/log": {}}, "expected a table"), ("roles", {"mel/log": ""}, "damaged"),
    ("roles", {"mel/log": "window"}, r"the role 'window', expected one of front_end, linear.*newer version")])
def test_a_manifest_with_unexpected_content_is_an_error(
        key: str, value: object, words: str, vit: Path) -> None:
    manifest = manifest_of(vit) | {key: value, "seal": ""}
    manifest["seal"] = hashlib.sha256(json_text(manifest).encode()).hexdigest()
    (vit / MANIFEST).write_text(json_text(manifest), encoding="utf-8")
    with pytest.raises(BundleError, match=words):
        open_bundle(vit)


# The hashes match, the content is wrong.

def test_the_graph_of_another_model_is_an_error_even_if_its_hash_matches(
        sat: Path, random_vit: Path) -> None:
    shutil.copy(random_vit / GRAPH, sat / GRAPH)
    reseal(sat)
    with pytest.raises(BundleError, match="its metadata does not match the bundle"):
        load(sat)


def test_a_graph_with_other_weights_is_an_error_even_if_its_hash_matches(vit: Path) -> None:
    graph = onnx.load(vit / GRAPH)
    for entry in graph.metadata_props:
        if entry.key == f"{PREFIX}checkpoint":
            entry.value = json.dumps(json.loads(entry.value) | {"sha256": "0" * 64})
    onnx.save(graph, vit / GRAPH)
    reseal(vit)
    with pytest.raises(BundleError, match="its metadata does not match the bundle"):
        load(vit)


def test_a_file_that_is_not_a_graph_is_an_error_even_if_its_hash_matches(vit: Path) -> None:
    (vit / GRAPH).write_bytes(b"no graph at all")
    reseal(vit)
    with pytest.raises(BundleError, match=r"cannot load .*model\.onnx"):
        load(vit)


CACHES: dict[str, Callable[[FloatArray], NDArray[Any]]] = {
    "of another shape": lambda values: values[None],
    "of another dtype": lambda values: values.astype(np.float16),
    "of fewer layers": lambda values: values[:len(values) // DEPTH * (DEPTH - 1)],
}


@pytest.mark.parametrize("change", CACHES)
def test_an_initial_cache_that_the_graph_cannot_take_is_an_error(change: str, sat: Path) -> None:
    np.save(sat / INITIAL_CACHE, CACHES[change](np.load(sat / INITIAL_CACHE)))
    reseal(sat)
    with pytest.raises(BundleError, match=r"initial_cache.npy contains .*, the contract requires float32 \("):
        load(sat)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 no more", b"\x93NUMPY", b"text"])
def test_an_initial_cache_that_is_not_an_array_is_an_error(data: bytes, sat: Path) -> None:
    (sat / INITIAL_CACHE).write_bytes(data)
    reseal(sat)
    with pytest.raises(BundleError, match=r"initial_cache\.npy is damaged"):
        load(sat)


def test_running_streams_reset_to_their_own_silence_after_the_bundle_was_replaced(sat: Path) -> None:
    stream, audio = load(sat).stream(), np.zeros(64_000, np.float32)
    before = stream.feed(audio)
    values = np.load(sat / INITIAL_CACHE)
    (sat / INITIAL_CACHE).unlink()
    np.save(sat / INITIAL_CACHE, np.zeros_like(values))
    stream.reset()
    np.testing.assert_array_equal(stream.feed(audio), before)


@pytest.mark.parametrize("how", ["cut short", "overwritten"])
def test_a_stream_continues_after_its_bundle_was_overwritten_but_a_reset_is_an_error(
        how: str, sat: Path, audio: FloatArray) -> None:
    tagger = load(sat)
    stream, untouched = tagger.stream(), tagger.stream()
    expected = untouched.feed(audio[:96_000])
    stream.feed(audio[:32_000])
    before = (sat / INITIAL_CACHE).read_bytes()
    with (sat / INITIAL_CACHE).open("r+b") as file:
        file.truncate(0) if how == "cut short" else file.write(b"\x7f" * len(before))
    np.testing.assert_array_equal(stream.feed(audio[32_000:64_000])[0], expected[1])
    for begin in (stream.reset, tagger.stream):
        with pytest.raises(BundleError, match=r"initial_cache\.npy was overwritten after the bundle was"):
            begin()
    np.testing.assert_array_equal(stream.feed(audio[64_000:96_000])[0], expected[2])  # it was not reset
    (sat / INITIAL_CACHE).write_bytes(before)
    stream.reset()
    np.testing.assert_array_equal(stream.feed(audio[:96_000]), expected)


def test_a_link_to_only_the_weights_is_refused_but_links_to_all_files_or_the_folder_work(
        vit: Path, tmp_path: Path, audio: FloatArray) -> None:
    graph, data = onnx.load(vit / GRAPH), f"{GRAPH}.data"
    onnx.save_model(graph, vit / GRAPH, save_as_external_data=True, location=data, size_threshold=16_384)
    reseal(vit)
    expected = load(vit).stream().feed(audio[:32_000])
    (tmp_path / "folder").symlink_to(vit)
    (tmp_path / "all").mkdir()
    for part in vit.iterdir():
        (tmp_path / "all" / part.name).symlink_to(part)
    for name in ("folder", "all"):
        np.testing.assert_array_equal(load(tmp_path / name).stream().feed(audio[:32_000]), expected)
    (vit / data).rename(tmp_path / data)
    (vit / data).symlink_to(tmp_path / data)
    with pytest.raises(BundleError, match="links into several folders: link all of them into one folder"):
        load(vit)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system whose names are bytes, as Linux'")
def test_a_folder_whose_name_is_not_utf8_is_refused_with_advice(
        vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = vit.rename(vit.with_name(os.fsdecode(b"\xff")))
    with pytest.raises(BundleError, match=r"is not UTF-8, which ONNX Runtime cannot open.* as `\.`"):
        load(folder)
    monkeypatch.chdir(folder)
    assert load(".").contract.variant == vit.parent.name


@pytest.mark.parametrize(("package", "version", "words"), [
    ("onnxruntime", "1.17.3", "1.17.3 is installed, expected 1.20 or newer: pip install 'satexport[cpu]'"),
    ("onnxruntime", "1.9.0", "ONNX Runtime 1.9.0 is installed, expected 1.20 or newer")])
def test_a_runtime_that_is_too_old_is_refused_before_it_loads_anything(
        package: str, version: str, words: str, vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(package)
    monkeypatch.setattr(module, "__version__", version)
    monkeypatch.setattr(module, "InferenceSession", None)
    with pytest.raises(MissingError, match=re.escape(words)):
        load(vit)


def test_the_minimum_versions_are_those_of_the_extras() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    for module in (onnx_runtime, open_vino):
        least = ".".join(map(str, module.MIN_VERSION))
        assert f'{module.PACKAGE} = ["{module.PACKAGE}>={least}"]'.replace("onnxruntime = ", "cpu = ") in text


def test_golden_chunks_with_another_length_are_an_error(vit: Path) -> None:
    np.savez(vit / GOLDEN, audio=np.zeros((3, 16_000), np.int16), scores=np.zeros((3, 527), np.float32))
    reseal(vit)
    with pytest.raises(BundleError, match=r"audio \(3, 16000\).*expected \[N, 32000\]"):
        run_golden(load(vit))
