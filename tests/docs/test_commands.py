"""Every `satexport` command that the documentation or a help text shows exists as it is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import click
import pytest

from satexport.commands.group import cli
from satexport.errors import UsageError
from satexport.models.families import find_variant
from satexport.targets import find_target
from tests.docs.commands import FENCE, PAGES, PLACEHOLDER, Shown, in_lines, parse, shown_commands
from tests.docs.places import PLACES

SHOWN = shown_commands()
COMMANDS = [shown for shown in SHOWN if not PLACEHOLDER.fullmatch(shown.words[0])]


@pytest.mark.parametrize("shown", COMMANDS, ids=str)
def test_a_shown_command_exists_with_its_options_and_values(shown: Shown) -> None:
    try:
        values = parse(shown).params
    except (click.MissingParameter, click.BadOptionUsage):  # an argument, or the value of an option
        assert not shown.is_whole
        return
    except click.exceptions.Exit:  # --help
        return
    check_names(values)


def check_names(values: Mapping[str, Any]) -> None:
    """Raise `UsageError` if a model or target that is no placeholder does not exist."""
    model, target = values.get("model"), values.get("target_name")
    if model and not PLACEHOLDER.fullmatch(model):
        find_variant(model, values["delay"])
    if target and not PLACEHOLDER.fullmatch(target) and not target.endswith(".toml"):
        find_target(target)


@pytest.mark.parametrize("shown", [shown for shown in COMMANDS if shown.is_whole], ids=str)
def test_every_path_of_a_shown_command_has_a_stand_in(shown: Shown) -> None:
    if reason := shown.needs:
        pytest.skip(f"is not run: needs {reason}")
    paths = [word for word in shown.words if re.search(r"[/.]", word) and not re.fullmatch(r"[\d.]+", word)]
    assert [path for path in paths if path not in PLACES and not PLACEHOLDER.fullmatch(path)
            and not re.fullmatch(r"\d\d\.\w+", path)] == []


def test_a_quoted_word_may_go_on_in_the_next_line() -> None:
    lines = ["python3 -c '", "satexport x", "'", "satexport run a.wav  # it's", "arecord | satexport run -"]
    assert [shown.words for shown in in_lines("page", lines)] == [("run", "a.wav"), ("run", "-")]


def test_a_quote_that_no_line_closes_is_an_error() -> None:
    with pytest.raises(ValueError, match="page: a quote is not closed"):
        list(in_lines("page", ["satexport run 'a.wav", "satexport models"]))


def test_every_command_is_shown_in_its_own_help_and_on_a_page() -> None:
    helps = {shown.words[0] for shown in SHOWN if shown.page == f"satexport {shown.words[0]} --help"}
    pages = {shown.words[0] for shown in SHOWN if shown.page.startswith(("README", "docs"))}
    assert helps == set(cli.commands)
    assert pages >= set(cli.commands)


OPTIONS = sorted({code for page, path in PAGES.items() if page.startswith(("README", "docs/"))
                  for code in re.findall(r"`(--[^`]+)`", FENCE.sub("", path.read_text("utf-8")))})


@pytest.mark.parametrize("code", OPTIONS)
def test_options_in_a_sentence_are_those_of_some_command(code: str) -> None:
    words = [word.split("|") for word in code.split() if word != "..."]
    for number in range(max(map(len, words))):  # "--ranges minmax|entropy" is two
        line = [word[min(number, len(word) - 1)] for word in words]
        assert any(takes(name, line) for name in cli.commands), line


def takes(name: str, options: Sequence[str]) -> bool:
    """Does a command have these options, with these values?"""
    shown = Shown(page="", text="", words=(name, *options), is_whole=False)
    try:
        check_names(parse(shown).params)
    except (click.MissingParameter, click.BadOptionUsage):
        return True
    except click.exceptions.Exit:  # --help
        return True
    except (click.UsageError, UsageError):
        return False
    return True
