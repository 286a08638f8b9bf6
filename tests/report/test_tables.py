"""Tables fit the width of every terminal, and their cells cannot send it control codes."""

from __future__ import annotations

import io
import sys

import pytest

from satexport.report.table import Table
from satexport.report.terminal import print_table


class Terminal(io.StringIO):
    """Standard output that is a terminal."""

    def isatty(self) -> bool:
        return True


def table(monkeypatch: pytest.MonkeyPatch, width: int) -> str:
    out = Terminal()
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", out)
    print_table(Table(
        title="t\x1b[2J", head=("name", "megabytes", "", "notes"),
        rows=[("one", "12.5", "x", ("\x1b[31mred", "[b]:dog:")), ("two-of-them", "0.25", "", "fi\nne")]))
    return out.getvalue()


def test_a_table_is_drawn_if_its_words_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    text = table(monkeypatch, 50)
    assert "│ one         │      12.5 │ x │ \\x1b[31mred │" in text
    assert "[b]:dog:" in text
    assert "\x1b[31m" not in text
    assert "\x1b[2J" not in text


def test_each_row_of_a_table_too_wide_for_the_terminal_is_a_block_of_lines(
        monkeypatch: pytest.MonkeyPatch) -> None:
    assert table(monkeypatch, 40) == (
        "t\\x1b[2J\n\nname: one\nmegabytes: 12.5\nx\nnotes: \\x1b[31mred, [b]:dog:\n"
        "\nname: two-of-them\nmegabytes: 0.25\nnotes: fi\\nne\n")
