"""A bundle is complete or does not exist, and describes itself."""

from __future__ import annotations

import errno
import io
import json
import os
import time
import zipfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from satexport import __version__, files
from satexport.bundle import folder as bundle_module
from satexport.bundle.contract import PREFIX, Contract
from satexport.bundle.folder import (
    GOLDEN,
    INITIAL_CACHE,
    LABELS,
    MANIFEST,
)
from satexport.bundle.places import staged_bundle
from satexport.errors import RunError
from satexport.files import sha256_of, swap_folders
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_variant
from satexport.models.sat.family import DEMOS
from satexport.pipeline import export as export_module
from satexport.pipeline.export import export_onnx
from satexport.tagging.tagger import load
from satexport.targets import find_target
from tests import ROOT
from tests.bundle.copies import GRAPH, content, copy_of, manifest_of, reseal
from tests.tiny import SAT, VIT, export

OLD, NEW = (json.dumps({"schema": 1, "seal": which}) for which in ("old", "new"))  # of bundle.json


@pytest.fixture
def vit(random_vit: Path, tmp_path: Path) -> Path:
    """A bundle to modify, without a cache."""
    return copy_of(random_vit, tmp_path)


# Writing.

@pytest.fixture(scope="module")
def again(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model exported again, later and from another folder, over a bundle that had a report."""
    folder = tmp_path_factory.mktemp("again")
    former = copy_of(tiny, folder)
    (former / "reports" / "parity.json").write_text("{}")
    (former / LABELS).write_text("damaged")
    return export(folder, SAT, 2, "random")


def test_two_exports_have_the_same_bytes(tiny: Path, again: Path) -> None:
    assert set(content(again)) == {MANIFEST, GRAPH, INITIAL_CACHE, LABELS, GOLDEN, "reports/export.json"}
    for name, data in content(again).items():
        assert data == (tiny / name).read_bytes(), name


def test_an_export_replaces_the_bundle_as_a_whole(again: Path) -> None:
    assert not (again / "reports" / "parity.json").exists()
    assert os.listdir(again.parent) == ["onnx"]
    load(again)


@pytest.mark.parametrize(("failure", "seen"), [
    (KeyboardInterrupt(), KeyboardInterrupt), (OSError(errno.ENOSPC, "No space left on device"), RunError)])
def test_a_failure_at_the_end_of_an_export_keeps_the_previous_bundle(
        failure: BaseException, seen: type[BaseException], vit: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise failure

    before = content(vit)
    monkeypatch.setattr(export_module, "write_manifest", fail)
    checkpoint = load_checkpoint("random", find_variant(VIT, 2))
    with pytest.raises(seen):
        export_onnx(checkpoint, find_target("onnx"), vit.parents[1], use_onnxsim=False)
    assert content(vit.parents[1]) == {f"{VIT}-2s/onnx/{name}": data for name, data in before.items()}
    assert os.listdir(vit.parent) == ["onnx"]


@pytest.mark.parametrize("where", ["before the first", "after the first", "before the second",
                                   "after the second"])
def test_an_interrupt_around_a_rename_leaves_one_complete_bundle(
        where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "swap_folders", lambda *_: False)  # as on a system without this call
    moment, number = where.split(" the ")
    rename, left = os.rename, ["first", "second"]

    def interrupted(source: Path, target: Path) -> None:
        hit = bool(left) and left.pop(0) == number
        if hit and moment == "before":
            raise KeyboardInterrupt
        rename(source, target)
        if hit:
            raise KeyboardInterrupt

    place = tmp_path / "onnx"
    place.mkdir()
    (place / MANIFEST).write_text(OLD)
    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), staged_bundle(place) as stage:
        (stage / MANIFEST).write_text(NEW)
    assert content(tmp_path) == {f"onnx/{MANIFEST}": (NEW if where == "after the second" else OLD).encode()}
    assert os.listdir(tmp_path) == ["onnx"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_interrupt_around_a_swap_leaves_one_complete_bundle(
        moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(one: Path, other: Path) -> bool:
        if moment == "after":
            os.rename(other, tmp_path / "third")
            os.rename(one, other)
            os.rename(tmp_path / "third", one)
        raise KeyboardInterrupt

    place = tmp_path / "onnx"
    place.mkdir()
    (place / MANIFEST).write_text(OLD)
    monkeypatch.setattr(files, "swap_folders", interrupted)
    with pytest.raises(KeyboardInterrupt), staged_bundle(place) as stage:
        (stage / MANIFEST).write_text(NEW)
    assert content(tmp_path) == {f"onnx/{MANIFEST}": (NEW if moment == "after" else OLD).encode()}
    assert os.listdir(tmp_path) == ["onnx"]


def test_a_bundle_exists_at_every_moment_of_a_replacement(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    if not swap_folders(one, other):
        pytest.skip(f"no renameat2 here, or not on the file system of {tmp_path}")
    place = tmp_path / "onnx"
    with staged_bundle(place) as stage:
        (stage / MANIFEST).write_text(OLD)
    monkeypatch.setattr(os, "rename", lambda *_: pytest.fail("between two renames there would be none"))
    with staged_bundle(place) as stage:
        (stage / MANIFEST).write_text(NEW)
    assert (place / MANIFEST).read_text() == NEW


def test_if_a_bundle_is_replaced_while_loading_the_new_one_is_loaded(
        random_vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, later = copy_of(random_vit, tmp_path / "place"), copy_of(random_vit, tmp_path / "later")
    (later / LABELS).write_text("".join(f"class {number}\n" for number in range(527)))
    graph = onnx.load(later / GRAPH)
    for entry in graph.metadata_props:
        if entry.key == f"{PREFIX}labels_sha256":
            entry.value = sha256_of(later / LABELS)
    onnx.save(graph, later / GRAPH)
    reseal(later, labels_sha256=sha256_of(later / LABELS))
    check, left = bundle_module._check_files, [later]

    def replaced(*arguments: Any) -> None:
        if left:
            os.rename(place, tmp_path / "former")
            os.rename(left.pop(), place)
        check(*arguments)

    monkeypatch.setattr(bundle_module, "_check_files", replaced)
    assert load(place).labels[0] == "class 0"


def refused_export(place: Path) -> str:
    """The error for a path that a bundle cannot be written to."""
    with pytest.raises(RunError) as caught, staged_bundle(place):
        pytest.fail("the work began although its result had no place")
    return str(caught.value)


def test_a_folder_that_is_not_a_bundle_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    assert "was not created by satexport" in refused_export(tmp_path / "thesis")
    assert content(tmp_path) == {"thesis/chapter.txt": b"years of work"}


@pytest.mark.parametrize("manifest", ['{"name": "a stranger\'s"}', "", "folder"])
def test_a_folder_with_another_programs_bundle_json_is_not_changed(manifest: str, tmp_path: Path) -> None:
    place = tmp_path / "onnx"
    place.mkdir()
    if manifest == "folder":
        (place / MANIFEST).mkdir()
    else:
        (place / MANIFEST).write_text(manifest)
    assert "was not created by satexport" in refused_export(place)
    assert (place / MANIFEST).exists()


@pytest.mark.parametrize("how", ["cut short", "of an earlier version", "changed by hand"])
def test_a_bundle_whose_manifest_is_damaged_is_replaced_by_the_next_export(how: str, vit: Path) -> None:
    text = (vit / MANIFEST).read_text("utf-8")
    (vit / MANIFEST).write_text({
        "cut short": text[:300], "of an earlier version": text.replace('"schema": ', '"schema": 0.'),
        "changed by hand": json.dumps(json.loads(text), sort_keys=True)}[how])
    with staged_bundle(vit) as stage:
        (stage / MANIFEST).write_text(NEW)
    assert content(vit) == {MANIFEST: NEW.encode()}


def test_a_file_at_the_path_of_the_bundle_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "onnx").write_text("mine")
    assert "was not created by satexport" in refused_export(tmp_path / "onnx")
    assert (tmp_path / "onnx").read_text("utf-8") == "mine"


@pytest.mark.parametrize("below", ["a file", "a read-only file system", "a name that is too long"])
def test_a_path_that_cannot_be_written_is_refused_before_the_work(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    place = {"a file": tmp_path / "file", "a read-only file system": Path("/proc"),  # also for root
             "a name that is too long": tmp_path / ("x" * 300)}[below]
    assert "cannot be written" in refused_export(place / "sat-t-2s" / "onnx")
    assert content(tmp_path) == {"file": b"mine"}


# Content.

def test_the_onnx_file_explains_itself(demo: Path) -> None:
    contract = manifest_of(demo)["contract"]
    found = {entry.key: entry.value for entry in onnx.load(demo / GRAPH).metadata_props}
    assert set(found) == {PREFIX + field.name for field in fields(Contract)}
    for key, value in contract.items():
        text = found[PREFIX + key]
        assert (text if isinstance(value, str) else json.loads(text)) == value, key
    assert onnx.load(demo / GRAPH).ir_version <= 9  # which ONNX Runtime 1.20 reads
    assert contract["labels_sha256"] == sha256_of(demo / LABELS)
    assert contract["checkpoint"]["sha256"] == sha256_of(DEMOS["sat-t-2s"])
    assert contract["exporter"] == f"satexport {__version__}"


def test_no_file_contains_a_path_or_a_time(demo: Path, build: Path) -> None:
    parts = content(demo)
    with zipfile.ZipFile(io.BytesIO(parts[GOLDEN])) as file:
        parts |= {f"{GOLDEN}/{entry}": file.read(entry) for entry in file.namelist()}
        assert {entry.date_time for entry in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    personal = [str(build), str(ROOT), os.path.expanduser("~"), str(DEMOS["sat-t-2s"].parent),
                *(time.strftime(form) for form in ("%Y-%m-%d", "%Y%m%d", "%d %b %Y"))]
    for name, data in parts.items():
        assert not [text for text in personal if len(text) > 1 and os.fsencode(text) in data], name


def test_an_engine_in_the_folder_does_not_count_as_size_of_the_graph(vit: Path) -> None:
    bundle = load(vit).bundle
    for name, size in (("int8.onnx", 10), ("int8.onnx.data", 100), ("int8.engine", 1000)):
        (vit / name).write_bytes(bytes(size))
    parts = {"int8.onnx": "", "int8.onnx.data": ""}
    assert replace(bundle, path=vit, graph=vit / "int8.onnx", files=parts).graph_bytes == 110
