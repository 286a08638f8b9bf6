"""Labels: the shipped ones, and users' lists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from satexport.audio.labels import audioset_labels, audioset_mids, esc50_to_audioset, read_labels
from satexport.errors import DataError

LABELS = audioset_labels()


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_audioset_has_527_different_names_and_mids() -> None:
    assert len(LABELS) == len(set(LABELS)) == len(audioset_mids()) == 527
    assert (LABELS[0], LABELS[-1]) == ("Speech", "Field recording")
    assert audioset_mids()["/m/06mb1"] == "Rain"


def test_every_esc50_category_has_a_different_audioset_label() -> None:
    table = esc50_to_audioset()
    assert len(table) == len(set(table.values())) == 50
    assert set(table.values()) <= set(LABELS)
    assert {"dog", "hand_saw", "door_wood_creaks", "drinking_sipping", "clock_tick"} <= set(table)


@pytest.mark.parametrize("text", [
    "cat\nbig, brown dog\n\n", "index,display_name\n0,cat\n1,\"big, brown dog\"\n",
    "\ufeffcat\r\nbig, brown dog\r\n", "\n , \ndisplay_name\ncat\n\"big, brown dog\"\n",
    "\ufeff\r\nindex,display_name\r\n0,cat\r\n1,\"big, brown dog\"\r\n",
    "\n\nindex,display_name\n0,cat\n1,\"big, brown dog\"\n"])
def test_user_labels_are_read_from_lines_or_a_csv(tmp_path: Path, text: str) -> None:
    assert read_labels(write(tmp_path / "labels", text)) == ("cat", "big, brown dog")


@pytest.mark.parametrize(("content", "words"), [
    (b"", "no label"), (b"cat\ndog\ncat\n", "more than once \\(cat\\)"),
    (b"\xff\xfe\x00", "cannot be read as UTF-8 text"), (None, "no such file")])
def test_unusable_label_files_are_refused(
        tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(DataError, match=f"labels.txt: .*{words}"):
        read_labels(tmp_path / "labels.txt")


@pytest.mark.parametrize(("content", "words"), [
    ("index,display_name\n0,cat\n1,big, brown dog\n", "line 3: has 3 cells for 2 columns"),
    ("index,display_name\n0,cat\n1\n", "line 3: has 1 cells for 2 columns"),
    ("index,display_name\n0,cat\n1,\n", "line 3: the label is ''"),
    ("index,display_name\n1,cat\n0,dog\n", "its column index does not number the rows"),
    ("display_name,display_name\ncat,dog\n", "2 columns are named display_name"),
    ('mid,display_name\n0,"cat\n1,dog"\n', "line 2: is not valid csv (a quote is not closed)"),
    ("cat\ndog\x1b]0;title\x07\n", r"line 2: the label is 'dog\x1b]0;title\x07'"),
    ("cat\nDog\x0cbarking\n", r"line 2: the label is 'Dog\x0cbarking'"),
    ("Dog\u2028barking\n", r"line 1: the label is 'Dog\u2028barking'"),
    ("Dog\u0085barking\n", r"line 1: the label is 'Dog\x85barking'"),
    ("Dog\u202egnikrab\n", r"line 1: the label is 'Dog\u202egnikrab'"),
    ("".join(f"{i}\n" for i in range(20_001)), "has 20001 labels; expected at most 20000"),
    ("x" * 4_000_001, "longer than 4 MB")], ids=lambda text: repr(text)[:40])
def test_labels_that_are_ambiguous_or_contain_control_characters_are_refused(
        tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(DataError, match=re.escape(words)):
        read_labels(write(tmp_path / "labels.txt", content))


@pytest.mark.parametrize("content", [
    b"\xef\xbb\xbfcat\r\n\r\nBurst, pop\r\n", b"cat\rBurst, pop\r", b"cat\nBurst, pop",
    b"display_name,index\n cat ,1\n\"Burst, pop\",2,\n,,\n"],
    ids=["BOM, CRLF and a blank line", "carriage returns", "no last newline", "a csv with empty cells"])
def test_all_common_line_endings_are_accepted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "labels").write_bytes(content)
    assert read_labels(tmp_path / "labels") == ("cat", "Burst, pop")


def test_labels_in_other_scripts_keep_their_joiners_and_spaces(tmp_path: Path) -> None:
    names = ("सत्\u200dय", "👩\u200d🚒", "犬\u3000吠", "chat\u00a0noir")
    assert read_labels(write(tmp_path / "labels.txt", "\n".join(names))) == names
