"""Untrusted text cannot control a terminal."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import onnx
import pytest

from satexport.audio.synthetic import synthetic_clip
from satexport.bundle.contract import PREFIX
from satexport.bundle.folder import LABELS, labels_sha256, labels_text, open_bundle
from satexport.errors import DataError
from satexport.files import json_text
from satexport.report.junit import junit
from satexport.terminal import note, printable, shown
from tests.bundle.copies import GRAPH, copy_of, reseal
from tests.commands.calls import call
from tests.machine import need, needs_utf8_names

soundfile = need("soundfile", "audio")
EVIL = ("\x1b]0;title\x07", "\x1b[2J\x1b[31mred", "\x9b31mred", "\u202egnikrab", "a\rb", "\x08\x7f",
        "a\u2028b", "a\x85b", "a\x0cb", "[red]Dog[/red]", ":dog: [link=file:///]x[/link]")
OBEYED = set("\x1b\x07\x9b\u202e\r\x08\x7f\u2028\x85\x0c")


@pytest.fixture(scope="module")
def evil(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's bundle as an attacker could write it: with a valid seal and labels that control a
    terminal."""
    folder = copy_of(demo, tmp_path_factory.mktemp("evil"))
    bundle = open_bundle(folder)
    labels = [f"{EVIL[i % len(EVIL)]}{i}" for i in range(bundle.contract.classes)]
    (folder / LABELS).write_bytes(labels_text(labels).encode())
    graph = onnx.load(folder / GRAPH)
    (entry,) = (entry for entry in graph.metadata_props if entry.key == f"{PREFIX}labels_sha256")
    entry.value = labels_sha256(labels)
    onnx.save(graph, folder / GRAPH)
    reseal(folder, labels_sha256=entry.value)
    return folder


def test_labels_survive_a_round_trip_through_a_bundle(evil: Path) -> None:
    assert open_bundle(evil).labels[:len(EVIL)] == tuple(f"{text}{i}" for i, text in enumerate(EVIL))


@needs_utf8_names
def test_tags_cannot_control_a_terminal_and_are_unchanged_in_json(evil: Path, tmp_path: Path) -> None:
    sound = tmp_path / "a\x1b[31m\n\u202eb.wav"
    soundfile.write(sound, synthetic_clip("evaluate", 0, rate=16_000)[0][:32_000], 16_000)
    printed = call("run", evil, sound, "--top", 527)
    assert (printed.code, OBEYED & set(printed.out + printed.err)) == (0, set())
    assert printed.out.count("\n") == 2
    assert r"\x1b]0;title\x070 " in printed.out
    assert "[red]Dog[/red]9 " in printed.out
    assert ":dog: [link=file:///]x[/link]10 " in printed.out
    found = call("run", evil, sound, "--top", 527, "--json").out
    assert not OBEYED & set(found)
    assert sorted(tag["label"] for tag in json.loads(found)["tags"]) == sorted(open_bundle(evil).labels)
    assert json.loads(found)["file"] == str(sound)


@pytest.mark.parametrize("arguments", [
    ("run", "\x1b[2J", "x"),
    pytest.param(("run", "{demo}", "\x1b[2J\n\u202e.wav"), marks=needs_utf8_names),
    ("parity", "{demo}", "--data", "\x1b[2J"),
    ("\x1b[2J",), ("onnx", "--model", "\x1b[2J"), ("cpu", "--target", "\x1b[2J.toml"),
    ("onnx", "--model", "sat-t", "--checkpoint", "\x1b[2J"), ("parity", "{demo}", "--folds", "\x1b[2J")])
def test_an_error_cannot_control_a_terminal(demo: Path, arguments: tuple[str, ...]) -> None:
    found = call(*(text.replace("{demo}", str(demo)) for text in arguments))
    assert found.code in (2, 4)
    assert r"\x1b[2J" in found.err
    assert not OBEYED & set(found.out + found.err)


def test_a_list_below_a_message_has_line_breaks_and_names_have_none(
        capsys: pytest.CaptureFixture[str]) -> None:
    error = DataError("2 rules of a\n  b:", "one\n  Parity: passed\x1b[0m", "two")
    note(f"Error: {error.message}", *error.lines)
    assert capsys.readouterr().err == (
        "Error: 2 rules of a\\n  b:\n  one\\n  Parity: passed\\x1b[0m\n  two\n")


@pytest.mark.parametrize("arguments", [
    ("run", "{demo}", "nope\n  0.0 - 2.0 s  Siren 0.99"), ("run", "{demo}", "x", "--top\n  0.0 - 2.0 s"),
    ("run", "{demo}", "x", "--top", "1\n  0.0 - 2.0 s"),
    ("a\n  0.0 - 2.0 s",), ("models", "a\n  0.0 - 2.0 s")])
def test_a_name_cannot_forge_a_line(demo: Path, arguments: tuple[str, ...]) -> None:
    found = call(*(text.replace("{demo}", str(demo)) for text in arguments))
    assert r"\n  0.0 - 2.0 s" in found.out + found.err
    assert "\n  0.0 - 2.0 s" not in found.out + found.err


def test_json_and_xml_reports_cannot_control_a_terminal() -> None:
    content = {text: [text] for text in EVIL}
    text = json_text(content)
    assert json.loads(text) == content
    assert not OBEYED & set(text)
    suite = ElementTree.fromstring(junit("\x1b", [(text, "failed", text) for text in EVIL]).encode())
    assert [case.get("name") for case in suite.iter("testcase")] == [printable(text) for text in EVIL]


def test_a_value_in_a_message_is_short_and_printable() -> None:
    assert shown("a\x1b") == r"'a\x1b'"
    assert shown("x" * 1000) == f"'{'x' * 79}..."
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == "a list nested too deeply to print"


def test_a_very_long_message_keeps_its_beginning_and_its_end() -> None:
    text = str(DataError(f"set.csv: {'x' * 100_000} is unknown; expected a label. Say which one."))
    assert len(text) < 2_000
    assert text.startswith("set.csv: xxx")
    assert " [...] xxx" in text
    assert text.endswith("expected a label. Say which one.")
