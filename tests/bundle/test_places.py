"""Paths of reports: which are allowed; they are checked before the work."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from satexport.bundle.places import check_outside, check_places
from satexport.errors import UsageError
from satexport.tagging.tagger import load
from tests.bundle.copies import content, copy_of
from tests.commands.calls import call


@pytest.fixture
def vit(random_vit: Path, tmp_path: Path) -> Path:
    """A bundle to write next to and into: TMP/vit-t-2s/onnx."""
    return copy_of(random_vit, tmp_path)


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*_: object) -> None:
        pytest.fail("the work began although its report has no place")

    monkeypatch.setattr("satexport.parity.golden.golden_scores", work)
    monkeypatch.setattr("satexport.parity.pytorch.find_weights", work)


INSIDE = {"a new file": "junit.xml", "labels": "labels.txt", "the manifest": "bundle.json",
          "the graph": "model.onnx", "a new folder": "ci/junit.xml",
          "another case of the folder": "Reports/junit.xml",
          "the folder's name": "reports", "a way out of the folder": "reports/../junit.xml"}


@pytest.mark.parametrize("place", ["reports/export.json", "-"])
def test_a_report_overwrites_neither_the_exports_report_nor_goes_to_standard_output(
        place: str, vit: Path, no_work: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(vit)
    before = content(vit)
    result = call("parity", vit, "--golden", "--report", place)
    assert (result.code, result.err.count("Error: ")) == (2, 1)
    assert content(vit) == before


@pytest.mark.parametrize("option", ["--report", "--junit"])
@pytest.mark.parametrize("name", INSIDE.values(), ids=INSIDE)
@pytest.mark.usefixtures("no_work")
def test_a_report_among_the_parts_of_a_bundle_is_refused_before_the_work(
        option: str, name: str, vit: Path) -> None:
    before = content(vit)
    result = call("parity", vit, "--golden", option, vit / name)
    assert (result.code, result.out) == (2, "")
    assert "is inside the bundle" in result.err or "is not a regular file" in result.err
    assert content(vit) == before
    load(vit)


def test_a_bundle_with_a_report_in_its_reports_folder_still_loads(vit: Path) -> None:
    result = call("parity", vit, "--golden", "--report", vit / "reports" / "nightly.json",
                  "--junit", vit / "reports" / "ci" / "junit.xml")
    assert (result.code, (vit / "reports" / "ci" / "junit.xml").is_file()) == (0, True)
    assert (vit / "reports" / "nightly.json").is_file()
    load(vit)


def by_a_link_to_the_folder(vit: Path) -> Path:
    (vit.parent / "link").symlink_to(vit)
    return vit.parent / "link" / "labels.txt"


def by_a_link_to_the_part(vit: Path) -> Path:
    (vit.parent / "link.txt").symlink_to(vit / "labels.txt")
    return vit.parent / "link.txt"


def where_the_part_is_a_link_to(vit: Path) -> Path:
    (vit / "labels.txt").rename(vit.parent / "kept.txt")
    (vit / "labels.txt").symlink_to(vit.parent / "kept.txt")
    return vit.parent / "kept.txt"


def by_a_folder_of_reports_that_is_a_link_back(vit: Path) -> Path:
    (vit / "reports" / "export.json").unlink()
    (vit / "reports").rmdir()
    (vit / "reports").symlink_to(vit)
    return vit / "reports" / "labels.txt"


@pytest.mark.parametrize("way", [by_a_link_to_the_folder, by_a_link_to_the_part, where_the_part_is_a_link_to,
                                 by_a_folder_of_reports_that_is_a_link_back])
@pytest.mark.usefixtures("no_work")
def test_a_part_of_a_bundle_is_refused_as_a_report_also_through_links(
        way: Callable[[Path], Path], vit: Path) -> None:
    place = way(vit)
    before = place.read_bytes()
    result = call("parity", vit, "--golden", "--report", place)
    assert (result.code, place.read_bytes()) == (2, before)
    load(vit)


@pytest.mark.parametrize(("report", "junit"), [
    ("same", "same"), ("same", "./same"), ("R.json", "r.JSON"), ("link", "same"), ("a/../same", "same"),
    ("parity.png", None), ("parity.json", "parity.png")])
@pytest.mark.usefixtures("no_work")
def test_two_reports_in_the_same_file_are_refused_before_the_work(
        report: str, junit: str | None, vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "same").write_text("mine")
    (tmp_path / "link").symlink_to("same")
    (tmp_path / "a").mkdir()
    result = call("parity", vit, "--report", report, *(["--junit", junit] if junit else []))
    assert (result.code, "are the same file" in result.err) == (2, True)
    assert (tmp_path / "same").read_text() == "mine"


@pytest.mark.parametrize("place", [".", "/", os.devnull])
@pytest.mark.usefixtures("no_work")
def test_a_folder_or_a_device_is_refused_as_a_report(place: str, vit: Path) -> None:
    result = call("parity", vit, "--golden", "--report", place)
    assert (result.code, "is not a regular file" in result.err) == (2, True)


def test_the_folder_of_a_report_is_created_with_golden_chunks_too(vit: Path, tmp_path: Path) -> None:
    assert call("parity", vit, "--golden", "--report", tmp_path / "new" / "er" / "r.json").code == 0
    assert (tmp_path / "new" / "er" / "r.json").is_file()


@pytest.mark.usefixtures("no_work")
def test_a_report_folder_that_cannot_be_written_exits_with_5_before_the_work(
        vit: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = call("parity", vit, "--golden", "--report", tmp_path / "file" / "r.json")
    assert (result.code, result.out, "cannot be written" in result.err) == (5, "", True)


def test_measure_writes_no_report_among_the_parts_of_a_bundle(vit: Path) -> None:
    before = content(vit)
    for folder in (vit, vit / "ci"):
        result = call("measure", vit, "--report", folder)
        assert (result.code, "is inside the bundle" in result.err) == (2, True)
    assert content(vit) == before


@pytest.mark.parametrize("arguments", [
    ("onnx", "--model", "vit-t", "--checkpoint", "random"), ("cpu", "--int8", "dynamic", "--from", "BUNDLE"),
    ("data", "esc50")], ids=lambda arguments: arguments[0])
def test_no_command_writes_its_output_into_a_bundle(
        arguments: tuple[str, ...], vit: Path, random_vit: Path) -> None:
    before = content(vit.parent)
    words = [str(random_vit) if word == "BUNDLE" else word for word in arguments]
    result = call(*words, "--output", vit)
    assert (result.code, "is inside the bundle" in result.err) == (2, True)
    assert content(vit.parent) == before
    assert sorted(os.listdir(vit)) == sorted({name.split("/")[0] for name in content(vit)})


def test_paths_next_to_bundles_are_accepted(vit: Path, tmp_path: Path) -> None:
    check_outside(vit.parent / "other")
    check_places([("report", vit.parent / "r.json"), ("picture", tmp_path / "r.json")], [vit])
    with pytest.raises(UsageError, match=r"is inside the bundle .*such as .*reports/\{0}\.json"):
        check_places([("report", vit / "{0}.json")])
    with pytest.raises(UsageError, match=r"is inside the bundle .* Choose another path\.$"):
        check_outside(vit / "onnx")


@pytest.mark.parametrize("text", ["{}", '{"bundle": "of a web page", "version": 2}', "", "\x00"])
def test_a_bundle_json_of_another_program_does_not_block_a_report(
        text: str, vit: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text(text)
    check_outside(vit)
    assert call("parity", vit, "--golden", "--report", tmp_path / "r.json").code == 0


@pytest.mark.parametrize(("options", "what"), [
    (["--report", "out.png"], "the report out.png and the report's picture out.png"),
    (["--report", "out.PNG"], "the report out.PNG and the report's picture out.png"),
    (["--report", "r.json", "--junit", "r.png"], "the report's picture r.png and the JUnit report r.png")])
@pytest.mark.usefixtures("no_work")
def test_reports_in_the_same_file_are_named(
        options: list[str], what: str, vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("parity", vit, *options)
    assert (result.code, f"{what} are the same file" in result.err) == (2, True)
    assert "Rename one of them" in result.err
