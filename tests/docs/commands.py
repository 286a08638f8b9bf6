"""The commands that the documentation shows, and what a machine may lack to run them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import click

from satexport.commands.group import cli
from tests import ROOT

PAGES = {str(path.relative_to(ROOT)): path for path in sorted((
    *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "docker" / "README.md"))
    if path.name != "CHANGELOG.md"}
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<content>.*?)^```$", re.MULTILINE | re.DOTALL)
PLACEHOLDER = re.compile(r"(-?[A-Z]+\.?)+(\.toml)?")  # BUNDLE, FILE.toml, A, AUDIO...
IMAGES = {"satexport-cpu", "satexport-openvino", "satexport-jetson"}  # their command is satexport

NEEDS = {  # pattern of a shown command -> what it needs and a test does not have
    r"^docker ": "Docker",
    r"^arecord ": "a microphone (arecord)",
    r"--mic\b": "a microphone",
    r"^ffmpeg |rtsp": "ffmpeg and a camera",
    r"\btrt --build\b|\btrt .*--engine\b": "a Jetson",
    r"\bweb --serve\b": "somebody who ends it",
    r"--scheduler": "a Dask cluster",
    r"\bhub:": "the network (Hugging Face Hub)",
    r"\bsatexport data\b": "the network (ESC-50, 600 MB)",
    r"^satexport onnx(?!.*--checkpoint)|--checkpoint published": "the network (Zenodo)",
    r"\baudioset/": "AudioSet's clips",
}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A command of satexport in a page or in a help text."""

    page: str               # its path, or "satexport NAME --help"
    text: str               # the line of the shell, or the inline code
    words: tuple[str, ...]  # what follows `satexport`
    is_whole: bool          # in a block: all of a command; inline: arguments may be left out

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"

    @property
    def needs(self) -> str | None:
        """What it needs to run and no test has, None if nothing."""
        return _find(NEEDS, self.text)


def _find(table: dict[str, str], text: str) -> str | None:
    return next((reason for pattern, reason in table.items() if re.search(pattern, text)), None)


def shown_commands() -> list[Shown]:
    """All of them, page by page in the order of the page, each once per page."""
    found = [shown for page, path in PAGES.items() for shown in _in_page(page, path.read_text("utf-8"))]
    helps = {"satexport": cli.help or ""} | {f"satexport {name}": command.help or ""
                                            for name, command in cli.commands.items()}
    for name, text in helps.items():
        lines = [line.strip().split("   ")[0] for line in text.splitlines()
                 if re.match(r" *(arecord .*\| )?satexport ", line)]
        found += in_lines(f"{name} --help", lines)
    return list(dict.fromkeys(found))


def _in_page(page: str, text: str) -> Iterator[Shown]:
    for fence in FENCE.finditer(text):
        lines = re.sub(r"\\\n\s*", "", fence["content"]).splitlines()
        if fence["language"] == "":  # a command and its output
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        if fence["language"] in ("", "sh"):
            yield from in_lines(page, lines)
    for code in re.findall(r"`([^`]+)`", FENCE.sub("", text)):
        name, *words = shlex.split(code.replace("\n", " ")) if code.startswith("satexport ") else [""]
        if name:
            plain = (word.strip("[]").removesuffix("...") for word in words)
            yield Shown(page=page, text=code, words=tuple(filter(None, plain)), is_whole=False)


def in_lines(page: str, lines: Iterable[str]) -> Iterator[Shown]:
    """The commands in lines of a shell. A command whose quotes are open at the end of a line goes on in the
    next one. Raises `ValueError` if no later line closes them."""
    command = ""
    for line in lines:
        command = f"{command}\n{line}" if command else line
        if (words := _split(command)) is not None:
            yield from _in_command(page, command, words)
            command = ""
    if command:
        raise ValueError(f"{page}: a quote is not closed in {command!r}")


def _split(command: str) -> list[str] | None:
    """The words of a command, as a shell reads them; None if a quote is not closed."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    try:
        return list(lexer)
    except ValueError:
        return None


def _in_command(page: str, line: str, words: list[str]) -> Iterator[Shown]:
    """The commands of satexport in a command, which may join several by pipes."""
    starts = [0, *(number + 1 for number, word in enumerate(words) if set(word) <= set("|&;"))]
    for start, end in zip(starts, [*(number - 1 for number in starts[1:]), len(words)], strict=True):
        part = words[start:end]
        image = next((number for number, word in enumerate(part) if word in IMAGES), None)
        if part[:1] == ["satexport"] or (part[:2] == ["docker", "run"] and image is not None):
            is_alone = part[0] == "satexport" and not start
            text = " ".join(part) if is_alone else line.partition("#")[0].strip()
            yield Shown(page=page, text=text, words=tuple(part[(image or 0) + 1:]), is_whole=True)


def parse(shown: Shown) -> click.Context:
    """The command line as click reads it, nothing run. Raises `click.UsageError` if it is none."""
    group = click.Context(cli, help_option_names=["-h", "--help"])  # as of the program: click keeps them
    name, *words = shown.words
    if name not in cli.commands:
        raise click.UsageError(f"no command {name!r}")
    return cli.commands[name].make_context(name, words, parent=group)
