"""`satexport report`: what lies in a bundle is shown again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from satexport.bundle.contract import RANDOM_WEIGHTS
from satexport.files import json_text
from satexport.origin import origin
from satexport.report.serialize import SCHEMA, to_json
from satexport.version import __version__
from tests.bundle.copies import content, copy_of
from tests.commands.calls import call, no_file_longer_than
from tests.report.records import measure_report, parity_report


@pytest.fixture
def reported(tiny: Path, tmp_path: Path) -> Path:
    """A bundle with three reports, and a file that is none."""
    bundle = copy_of(tiny, tmp_path)
    for name, report in (("measure", measure_report()), ("parity", parity_report())):
        (bundle / "reports" / f"{name}.json").write_text(json_text(to_json(report)), "utf-8")
    (bundle / "reports" / "layers-int8.json").write_text('{"Layers": []}', "utf-8")
    return bundle


def test_the_reports_of_a_bundle_are_shown_in_the_order_of_their_making(reported: Path) -> None:
    result = call("report", reported)
    assert (result.code, result.err) == (0, "")
    places = [result.out.index(text) for text in (
        "golden chunks: largest", "Parity: passed.", "step in a burst, ms", "Budgets: passed.")]
    assert places == sorted(places)
    assert RANDOM_WEIGHTS in result.out
    assert f"Made on {origin()['cpu']}, " in result.out
    assert f"satexport {__version__}" in result.out


def test_one_report_is_shown_as_markdown(reported: Path) -> None:
    result = call("report", reported / "reports" / "parity.json", "--markdown")
    assert result.code == 0
    assert "| largest difference |          1.2e-02 | 1.2e-02 |" in result.out
    assert "sat-t-2s scores each chunk of 2 s, with a cache of those before." in result.out
    assert "golden chunks: largest" not in result.out


def test_json_has_every_report(reported: Path) -> None:
    result = call("report", reported, "--json")
    assert [report["kind"] for report in json.loads(result.out)["reports"]] == ["export", "parity", "measure"]


def test_collected_reports_are_shown_like_the_bundle(reported: Path, tmp_path: Path) -> None:
    assert call("report", reported, "-o", tmp_path / "all.json").code == 0
    assert call("report", tmp_path / "all.json").out == call("report", reported).out


@pytest.mark.parametrize(("name", "begins"), [
    ("r.html", b"<!doctype html>"), ("r.md", b"**"), ("r.json", b"{"), ("r.png", b"\x89PNG")])
def test_a_file_is_written_by_its_ending(reported: Path, tmp_path: Path, name: str, begins: bytes) -> None:
    result = call("report", reported / "reports" / "measure.json", "-o", tmp_path / name)
    assert (result.code, result.out, result.err) == (0, "", "")
    assert (tmp_path / name).read_bytes().startswith(begins)


@pytest.mark.parametrize(("arguments", "code", "message"), [
    (("BUNDLE", "--json", "--markdown"), 2, "choose one of them"),
    (("BUNDLE", "-o", "r.pdf"), 2, "the name ends in .pdf; expected one of .html, .md, .json, .png"),
    (("BUNDLE", "-o", "r.png"), 2, "2 of the reports have a picture, expected 1"),
    (("BUNDLE/reports/export.json", "-o", "r.png"), 2, "0 of the reports have a picture, expected 1"),
    (("BUNDLE", "-o", "BUNDLE/labels.txt.md"), 2, "is inside the bundle"),
    (("nowhere.json",), 4, "no such file; expected a report"),
    (("BUNDLE/labels.txt",), 4, "is not JSON; expected a report"),
    (("BUNDLE/bundle.json",), 4, "is not a report of satexport"),
    (("FOLDER",), 4, "bundle.json"),
])
def test_wrong_use_and_bad_input_say_what_is_expected(
        reported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...],
        code: int, message: str) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    before = content(reported)
    named = [text.replace("BUNDLE", str(reported)).replace("FOLDER", str(tmp_path / "empty"))
             for text in arguments]
    result = call("report", *named)
    assert (result.code, result.out) == (code, ""), result.err
    assert message in result.err
    assert content(reported) == before


def test_a_report_of_another_schema_says_how_to_make_it_again_and_others_are_shown(reported: Path) -> None:
    file = reported / "reports" / "measure.json"
    old = json.loads(file.read_bytes()) | {"schema": SCHEMA - 1}
    file.write_text(json.dumps(old), "utf-8")
    result = call("report", reported)
    assert (result.code, "Parity: passed." in result.out, "step in a burst" in result.out) == (4, True, False)
    assert f"{file}: is a report of schema {SCHEMA - 1}; this satexport reads schema {SCHEMA}." in result.err
    assert "Make it again: `satexport measure BUNDLE`." in result.err


@pytest.mark.parametrize("damage", [{"hop_seconds": 0}, {"tokens": {"x": 1}},
                                    {"operations": {"model": 10 ** 400, "front_end": 1}}], ids=str)
@pytest.mark.parametrize("options", [(), ("-o", "r.png"), ("-o", "r.html")], ids=str)
def test_impossible_values_are_bad_input(
        reported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: dict[str, Any],
        options: tuple[str, ...]) -> None:
    monkeypatch.chdir(tmp_path)
    file = reported / "reports" / "measure.json"
    report = json.loads(file.read_bytes())
    report["bundles"][0] |= damage
    file.write_text(json.dumps(report), "utf-8")
    result = call("report", file, *options)
    assert (result.code, result.out) == (4, "")
    assert "it is damaged. Make it again." in result.err
    assert list(tmp_path.glob("r.*")) == []


def test_a_folder_of_reports_is_shown_and_no_report_is_overwritten(reported: Path, tmp_path: Path) -> None:
    folder = reported.parent / "measure"
    folder.mkdir()
    (folder / "measure.json").write_bytes((reported / "reports" / "measure.json").read_bytes())
    assert "step in a burst" in call("report", folder).out
    result = call("report", folder / "measure.json", "-o", folder / "measure.json")
    assert (result.code, "choose another file" in result.err) == (2, True)


def test_a_bundle_without_reports_says_what_makes_them(reported: Path) -> None:
    for file in (reported / "reports").iterdir():
        file.unlink()
    result = call("report", reported)
    assert (result.code, result.out) == (4, "")
    assert f"`satexport parity {reported}`" in result.err


def test_a_page_without_jinja2_says_what_to_install(
        reported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    result = call("report", reported, "-o", tmp_path / "r.html")
    assert (result.code, result.out) == (3, "")
    assert "jinja2 is not installed: pip install 'satexport[report]'." in result.err
    assert not (tmp_path / "r.html").exists()


def test_a_page_that_cannot_be_written_leaves_the_older_one(reported: Path, tmp_path: Path) -> None:
    (tmp_path / "r.html").write_text("older", encoding="utf-8")
    with no_file_longer_than(10_000):
        result = call("report", reported, "-o", tmp_path / "r.html")
    assert (result.code, "cannot be written" in result.err) == (5, True)
    assert (tmp_path / "r.html").read_text("utf-8") == "older"


def test_a_page_shows_what_can_be_read_and_names_what_cannot(reported: Path, tmp_path: Path) -> None:
    file = reported / "reports" / "measure.json"
    old = json.loads(file.read_bytes()) | {"schema": SCHEMA - 1}
    file.write_text(json.dumps(old), "utf-8")
    result = call("report", reported, "-o", tmp_path / "r.html")
    assert (result.code, f"{file}: is a report of schema {SCHEMA - 1}" in result.err) == (4, True)
    assert "Parity: passed." in (tmp_path / "r.html").read_text("utf-8")


@pytest.mark.parametrize("place", ["bundle", "folder", "elsewhere"])
def test_a_report_of_a_bundle_is_not_replaced(place: str, tiny: Path, tmp_path: Path) -> None:
    bundle = copy_of(tiny, tmp_path)
    (bundle / "reports").mkdir(exist_ok=True)
    (bundle / "reports" / "parity.json").write_text(json_text(to_json(parity_report())))
    (tmp_path / "other.json").write_text(json_text(to_json(parity_report())))
    before = (bundle / "reports" / "parity.json").read_bytes()
    source = {"bundle": bundle, "folder": bundle / "reports", "elsewhere": tmp_path / "other.json"}[place]
    result = call("report", source, "-o", bundle / "reports" / "parity.json")
    assert (result.code, "choose another file" in result.err) == (2, True)
    assert (bundle / "reports" / "parity.json").read_bytes() == before
