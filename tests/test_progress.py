"""A progress bar takes one line of the terminal, which is empty afterwards."""

from __future__ import annotations

import io
import re
import time
from contextlib import suppress

import pytest

from satexport.progress import progress

LABEL = "PyTorch and the bundle, a set with a very long name [red]"


class Terminal(io.StringIO):
    """A standard error that is a terminal; `lines` is what its bars wrote, without escape sequences."""

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())
        return [line for line in re.split("[\r\n]", plain) if line]

    def shows(self, text: str) -> None:
        """Wait until a bar shows a text that it did not show before."""
        self.truncate(self.seek(0))
        for _ in range(500):
            if text in self.getvalue():
                return
            time.sleep(0.02)
        pytest.fail(f"{text!r} is not in {self.getvalue()!r}")


def open_terminal(monkeypatch: pytest.MonkeyPatch, columns: int = 80) -> Terminal:
    """Make standard error a terminal. A fixture cannot: pytest replaces standard error after it."""
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stderr", terminal)
    return terminal


@pytest.mark.parametrize("columns", [40, 80])
@pytest.mark.parametrize("unit", ["parts", "bytes"])
def test_a_bar_fits_into_a_line_and_says_how_much_is_done(
        monkeypatch: pytest.MonkeyPatch, columns: int, unit: str) -> None:
    terminal = open_terminal(monkeypatch, columns)
    with progress(LABEL, 10_000_000, unit=unit) as advance:
        advance(3_000_000)
        terminal.shows("30%" if unit == "parts" else "3.0/10")
    assert {len(line) for line in terminal.lines} == {columns}
    assert all(line.startswith("PyTorch and the ") for line in terminal.lines)


def test_a_bar_takes_the_place_of_the_one_around_it_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    with progress("outer", None):
        terminal.shows("outer")
        with progress("inner \x1b[2J[red]", None):
            terminal.shows(r"inner \x1b[2J[red]")
            for _ in range(5):  # the outer one would be shown again meanwhile, too
                terminal.shows("inner")
                assert not [line for line in terminal.lines if "outer" in line]
        terminal.shows("outer")
        assert not [line for line in terminal.lines[1:] if "inner" in line]


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_nothing_is_left_over(
        monkeypatch: pytest.MonkeyPatch, error: type[BaseException] | None) -> None:
    terminal = open_terminal(monkeypatch)
    with suppress(KeyboardInterrupt), progress("outer", None), progress("inner", 2):
        terminal.shows("inner")
        if error:
            raise error
    assert terminal.getvalue().endswith("\x1b[?25h\r\x1b[1A\x1b[2K")  # cursor on, a line up, clear the line
    terminal.truncate(terminal.seek(0))
    with progress("again", None):
        terminal.shows("again")
    assert not [line for line in terminal.lines if "outer" in line]


def test_without_a_terminal_nothing_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    with progress("outer", None), progress("inner", 2) as advance:
        advance()
    assert capfd.readouterr() == ("", "")
