"""Every `satexport` command that the documentation or a help text shows exists as it is shown."""

from __future__ import annotations

import re

import click
import pytest

from satexport.commands.group import cli
from satexport.models.families import find_variant
from satexport.targets import find_target
from tests.docs.commands import FENCE, PAGES, PLACEHOLDER, Shown, parse, shown_commands
from tests.docs.places import PLACES

SHOWN = shown_commands()
COMMANDS = [shown for shown in SHOWN if not PLACEHOLDER.fullmatch(shown.words[0])]


@pytest.mark.parametrize("shown", COMMANDS, ids=str)
def test_a_shown_command_exists_with_its_options_and_values(shown: Shown) -> None:
    if reason := shown.not_merged:
        pytest.skip(reason)
    try:
        values = parse(shown).params
    except (click.MissingParameter, click.BadOptionUsage):  # an argument, or the value of an option
        assert not shown.is_whole
        return
    except click.exceptions.Exit:  # --help
        return
    model, target = values.get("model"), values.get("target_name")
    if model and not PLACEHOLDER.fullmatch(model):
        find_variant(model, values["delay"])
    if target and not PLACEHOLDER.fullmatch(target) and not target.endswith(".toml"):
        find_target(target)


@pytest.mark.parametrize("shown", [shown for shown in COMMANDS if shown.is_whole], ids=str)
def test_every_path_of_a_shown_command_has_a_stand_in(shown: Shown) -> None:
    if reason := shown.not_merged or shown.needs:
        pytest.skip(f"is not run: needs {reason}")
    paths = [word for word in shown.words if re.search(r"[/.]", word) and not re.fullmatch(r"[\d.]+", word)]
    assert [path for path in paths if path not in PLACES and not PLACEHOLDER.fullmatch(path)
            and not re.fullmatch(r"\d\d\.\w+|parity\.xml", path)] == []


def test_every_command_is_shown_in_its_own_help_and_on_a_page() -> None:
    helps = {shown.words[0] for shown in SHOWN if shown.page == f"satexport {shown.words[0]} --help"}
    pages = {shown.words[0] for shown in SHOWN if shown.page.startswith(("README", "docs"))}
    assert helps == set(cli.commands)
    assert pages >= set(cli.commands)


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith(("README", "docs/"))])
def test_an_option_in_a_sentence_is_one_of_some_command(page: str) -> None:
    known = {option for command in cli.commands.values() for parameter in command.params
             for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    codes = re.findall(r"`(--[^`]+)`", FENCE.sub("", PAGES[page].read_text("utf-8")))
    options = {word for code in codes for word in code.split() if word.startswith("--")}
    assert options - known == set()
