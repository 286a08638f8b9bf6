"""A damaged or foreign bundle is never used, and the error names what is wrong with it."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from satexport.backends import FloatArray
from satexport.bundle import GOLDEN, INITIAL_CACHE, LABELS, MANIFEST, REPORTS, open_bundle
from satexport.contract import PREFIX, SCHEMA
from satexport.errors import BundleError
from satexport.files import json_text
from satexport.parity import run_golden
from satexport.stream import load
from tests.test_bundle import GRAPH, copy_of, manifest_of, reseal


@pytest.fixture
def vit(random_vit: Path, tmp_path: Path) -> Path:
    """A bundle to spoil, without a cache."""
    return copy_of(random_vit, tmp_path)


@pytest.fixture
def sat(tiny: Path, tmp_path: Path) -> Path:
    """A bundle to spoil, with a cache."""
    return copy_of(tiny, tmp_path)


def test_hidden_files_and_reports_do_no_harm(sat: Path) -> None:
    for name in (".DS_Store", ".parity.json.partial", *REPORTS):
        (sat / name).write_text("{}")
    assert load(sat).contract.variant == sat.parent.name


# A part is not whole.

def empty(part: Path) -> None:
    part.write_bytes(b"")


def truncate(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-100])


def lengthen(part: Path) -> None:
    part.write_bytes(part.read_bytes() + b"\n")


def make_a_folder(part: Path) -> None:
    part.unlink()
    part.mkdir()


def make_a_broken_link(part: Path) -> None:
    part.unlink()
    part.symlink_to("gone")


@pytest.mark.parametrize("name", [MANIFEST, GRAPH, INITIAL_CACHE, LABELS, GOLDEN])
@pytest.mark.parametrize("spoil", [Path.unlink, empty, truncate, lengthen, make_a_folder, make_a_broken_link])
def test_a_part_that_is_not_whole_is_an_error_that_names_it(
        spoil: Callable[[Path], None], name: str, sat: Path) -> None:
    spoil(sat / name)
    with pytest.raises(BundleError, match=name):
        open_bundle(sat)


@pytest.fixture(scope="module")
def victim(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose bytes are changed and put back."""
    return copy_of(tiny, tmp_path_factory.mktemp("victim"))


@pytest.mark.parametrize("name", [MANIFEST, GRAPH, INITIAL_CACHE, LABELS, GOLDEN])
@settings(max_examples=25)
@given(data=st.data())
def test_no_changed_byte_goes_unnoticed(name: str, victim: Path, data: st.DataObject) -> None:
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
            with pytest.raises(BundleError, match=re.escape(str(victim))):  # whatever it says of it
                open_bundle(victim)
        finally:
            file.seek(place)
            file.write(bytes([byte]))
    open_bundle(victim)


def test_a_foreign_file_is_named(vit: Path) -> None:
    (vit / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"holds notes\.txt, which bundle\.json does not list"):
        open_bundle(vit)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe{\x00", b'{"schema": %d}' % SCHEMA])
def test_a_manifest_that_is_none_is_an_error(text: bytes, vit: Path) -> None:
    (vit / MANIFEST).write_bytes(text)
    with pytest.raises(BundleError, match=MANIFEST):
        open_bundle(vit)


@pytest.mark.parametrize(("key", "value", "words"), [
    ("schema", SCHEMA + 1, f"schema {SCHEMA + 1}, this satexport reads {SCHEMA}"),
    ("schema", None, "schema None"),
    ("files", None, "damaged"), ("files", [GRAPH], "damaged|does not list"),
    ("files", {GRAPH: {}}, "damaged|does not list"),
    ("contract", {}, "schema None"), ("contract", [], "damaged"),
    ("contract", {"schema": SCHEMA}, "damaged"),
    ("target", None, "damaged"), ("graph", 7, "damaged")])
def test_a_manifest_of_another_make_is_an_error(key: str, value: object, words: str, vit: Path) -> None:
    manifest = manifest_of(vit) | {key: value, "seal": ""}
    manifest["seal"] = hashlib.sha256(json_text(manifest).encode()).hexdigest()
    (vit / MANIFEST).write_text(json_text(manifest), encoding="utf-8")
    with pytest.raises(BundleError, match=words):
        open_bundle(vit)


# The hashes are right, the content is not.

def test_the_graph_of_another_model_is_an_error_although_its_hash_is_right(
        sat: Path, random_vit: Path) -> None:
    shutil.copy(random_vit / GRAPH, sat / GRAPH)
    reseal(sat)
    with pytest.raises(BundleError, match="its metadata is not the contract"):
        load(sat)


def test_the_graph_of_other_weights_is_an_error_although_its_hash_is_right(vit: Path) -> None:
    graph = onnx.load(vit / GRAPH)
    for entry in graph.metadata_props:
        if entry.key == f"{PREFIX}checkpoint_sha256":
            entry.value = "0" * 64
    onnx.save(graph, vit / GRAPH)
    reseal(vit)
    with pytest.raises(BundleError, match="its metadata is not the contract"):
        load(vit)


def test_a_graph_that_is_none_is_an_error_although_its_hash_is_right(vit: Path) -> None:
    (vit / GRAPH).write_bytes(b"no graph at all")
    reseal(vit)
    with pytest.raises(BundleError, match=r"cannot load .*model\.onnx"):
        load(vit)


CACHES: dict[str, Callable[[FloatArray], NDArray[Any]]] = {
    "of another shape": lambda values: values[None],
    "of another dtype": lambda values: values.astype(np.float16),
    "of fewer layers": lambda values: values[:len(values) // 12 * 11],
}


@pytest.mark.parametrize("change", CACHES)
def test_an_initial_cache_that_the_graph_cannot_take_is_an_error(change: str, sat: Path) -> None:
    np.save(sat / INITIAL_CACHE, CACHES[change](np.load(sat / INITIAL_CACHE)))
    reseal(sat)
    with pytest.raises(BundleError, match=r"initial_cache.npy holds .*, the contract says float32 \("):
        load(sat)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 no more", b"\x93NUMPY", b"text"])
def test_an_initial_cache_that_is_no_array_is_an_error(data: bytes, sat: Path) -> None:
    (sat / INITIAL_CACHE).write_bytes(data)
    reseal(sat)
    with pytest.raises(BundleError, match=r"initial_cache\.npy is damaged"):
        load(sat)


def test_streams_that_run_begin_again_from_their_own_silence_when_another_bundle_takes_the_place(
        sat: Path) -> None:
    stream, audio = load(sat).stream(), np.zeros(64_000, np.float32)
    before = stream.feed(audio)
    values = np.load(sat / INITIAL_CACHE)
    (sat / INITIAL_CACHE).unlink()
    np.save(sat / INITIAL_CACHE, np.zeros_like(values))
    stream.reset()
    np.testing.assert_array_equal(stream.feed(audio), before)


def test_golden_chunks_of_another_length_are_an_error(vit: Path) -> None:
    np.savez(vit / GOLDEN, audio=np.zeros((3, 16_000), np.int16), scores=np.zeros((3, 527), np.float32))
    reseal(vit)
    with pytest.raises(BundleError, match=r"audio \(3, 16000\).*expected \[N, 32000\]"):
        run_golden(load(vit))
