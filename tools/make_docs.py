"""Write the generated parts of docs/ again: `make docs`.

A page marks such a part by two comments, `<!-- make docs: NAME -->` and `<!-- make docs end -->`; BLOCKS has
a function for each NAME. Each prints the program's own facts and depends neither on the terminal nor on the
machine. `tests/docs/test_pages.py` fails if a page is out of date.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import click

from satexport.backends.backend import BACKENDS, find_backend
from satexport.backends.openvino.settings import OpenVinoSettings
from satexport.backends.tensorrt.settings import JETSON_MODULE, TensorRtSettings
from satexport.bundle.contract import GraphOptions
from satexport.bundle.target import Budgets, Gates, Quantization
from satexport.commands.group import cli
from satexport.commands.models import (
    group_by_family,
    list_facts,
    paper_notes,
    papers_table,
    sizes_table,
)
from satexport.facts import toml_text
from satexport.files import write_text
from satexport.frontends.rows import FRONT_ENDS
from satexport.models.families import FAMILIES, all_variants, find_embeddings, find_family
from satexport.pipeline.matrix_file import CaseRow, Settings
from satexport.quantize.calibration_set import CalibrationSet
from satexport.report.figures import KIND_FIGURES
from satexport.report.markdown import align_rows, markdown_rows
from satexport.report.terms import TERMS
from satexport.targets import shipped
from satexport.triton import serving

DOCS = Path(__file__).parents[1] / "docs"
WIDTH = 100  # characters of a line of help
BLOCK = re.compile(r"<!-- make docs: (?P<name>[\w -]+) -->\n.*?<!-- make docs end -->", re.DOTALL)
TYPES = {str: "text", int: "whole number", float: "number", bool: "true or false"}
PLURALS = {str: "texts", int: "whole numbers", float: "numbers"}


# Markdown.

def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] = ()) -> str:
    """A table whose columns line up as plain text, too; those named in `numbers` are aligned to the right."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    return align_rows(cells, [name in numbers for name in head])


def code(text: str) -> str:
    return f"`{text}`"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


# The command line.

def commands() -> str:
    """The help of the group and of each command."""
    group = click.Context(cli, info_name="satexport", terminal_width=WIDTH,
                          help_option_names=["-h", "--help"])
    parts = ["## satexport", _fenced(cli.get_help(group))]
    for name, command in cli.commands.items():
        context = click.Context(command, info_name=name, parent=group, terminal_width=WIDTH)
        parts += [f"## satexport {name}", _fenced(command.get_help(context))]
    return "\n\n".join(parts)


def _fenced(text: str) -> str:
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return f"```text\n{lines}\n```"


# Targets and their tables.

def targets() -> str:
    """Every shipped target in a line, then its gates and budgets."""
    what = table(("target", "backend", "precision", "what for"),
                 [(code(t.name), t.backend, t.precision, t.description) for t in shipped()])
    head = ("target", "threads", "score difference, at most", "mAP kept, at least",
            *(f"`{field.name}`" for field in dataclasses.fields(Budgets)))
    limits = table(head, [
        (code(t.name), number(t.threads), number(t.gates.max_score_difference), number(t.gates.map_kept),
         *(number(limit) for limit in dataclasses.astuple(t.budgets))) for t in shipped()], head[1:])
    return f"{what}\n\nGates and budgets (`-`: none, or left to the runtime):\n\n{limits}"


def boards() -> str:
    """The targets for a Jetson."""
    rows = []
    for target in shipped():
        if target.backend == "tensorrt":
            settings = TensorRtSettings.of(target)
            if settings.module == JETSON_MODULE:
                rows.append((code(target.name), target.description.split(", JetPack")[0], settings.jetpack,
                             settings.version, ", ".join(settings.compute_capability)))
    return table(("target", "board", "JetPack", "TensorRT, at least", "compute capability"), rows)


def forced_keys() -> str:
    """Keys of [quantization] for which a backend takes one value only."""
    rows = [(name, ", ".join(f"`{key} = {toml_text(value)}`" for key, value in
                             find_backend(name).QUANTIZATION.items()) or "none",
             ", ".join(find_backend(name).PRECISIONS)) for name in BACKENDS]
    return table(("backend", "keys with one possible value", "precisions"), rows)


def keys_of(kind: type[Any]) -> Callable[[], str]:
    """A function that prints the keys of a TOML table: the fields of a dataclass, and their comments."""
    def keys() -> str:
        comments, hints = field_comments(kind), get_type_hints(kind)
        return table(("key", "type", "default", "meaning"), [
            (code(field.name), _type(hints[field.name]), _default(field), comments[field.name])
            for field in dataclasses.fields(kind)])
    return keys


def field_comments(kind: type[Any]) -> dict[str, str]:
    """The comment behind each field of a dataclass, with the lines below that go on with it. A constant that
    it names is replaced by its value."""
    source = textwrap.dedent(inspect.getsource(kind))
    comments = {token.start[0]: token.string.lstrip("# ") for token in
                tokenize.generate_tokens(io.StringIO(source).readline) if token.type == tokenize.COMMENT}
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            line, parts = node.end_lineno or 0, list[str]()
            while line in comments and (not parts or source.splitlines()[line - 1].lstrip().startswith("#")):
                parts.append(comments[line])
                line += 1
            found[node.target.id] = re.sub(r"\b[A-Z_]{4,}\b", partial(_value, kind), " ".join(parts))
    return found


def _value(kind: type[Any], match: re.Match[str]) -> str:
    """The value of a constant of the module that a dataclass is from, as a TOML has it."""
    value = getattr(inspect.getmodule(kind), match[0], None)
    values = value if isinstance(value, tuple) else (value,)
    return match[0] if value is None else ", ".join(map(toml_text, values))


def _type(hint: Any) -> str:
    """What a type is called in a TOML."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is tuple:
        return f"list of {PLURALS[parts[0]]}"
    if origin is dict:
        return "table"
    return TYPES[next(part for part in parts or (hint,) if part in TYPES)]


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return "empty"
    if field.default is dataclasses.MISSING:
        return "required"
    if field.default is None:
        return "no limit"
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return code(toml_text(value))


# Models.

def variants() -> str:
    """The variants of every family: sizes and caches."""
    parts: list[str] = []
    for facts in group_by_family(map(list_facts, all_variants())):
        front_end = ", ".join(code(name) for name in dict.fromkeys(fact["front_end"] for fact in facts))
        parts += [f"### The family `{facts[0]['family']}`", f"Front end: {front_end}.",
                  markdown_rows(sizes_table(facts))]
    return "\n\n".join(parts)


def embedding_kinds() -> str:
    """The kinds of embeddings of every family, the default first, and which models have them."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for variant in all_variants():
        for kind, phrase in find_embeddings(variant).items():
            rows.setdefault((variant.family, kind, phrase), []).append(variant.model)
    every = {family: {v.model for v in all_variants() if v.family == family} for family in FAMILIES}
    return table(("family", "KIND", "what it is", "models"), [
        (family, code(kind), phrase, "all" if set(models) == every[family] else _names(models))
        for (family, kind, phrase), models in rows.items()])


def embedding_sizes() -> str:
    """How many numbers the embeddings of each model have, kind by kind."""
    rows: dict[tuple[str, str], list[str]] = {}
    for variant in all_variants():
        interface = find_family(variant.family).interface
        sizes = {kind: interface(variant, 1, GraphOptions(embedding=kind)).embedding
                 for kind in find_embeddings(variant)}
        text = ", ".join(f"{code(kind)} {spec.shape[1]}" for kind, spec in sizes.items() if spec)
        rows.setdefault((variant.family, text), []).append(variant.model)
    return table(("models", "numbers"), [(_names(models), text) for (_, text), models in rows.items()])


def _names(models: Sequence[str]) -> str:
    return ", ".join(map(code, dict.fromkeys(models)))


def paper_figures() -> str:
    """The figures that papers give, and which file belongs to them."""
    parts: list[str] = []
    for facts in group_by_family(map(list_facts, all_variants())):
        if papers := papers_table(facts):
            notes = textwrap.fill(" ".join(paper_notes(facts)), 118)
            parts += [f"Family `{facts[0]['family']}`, {papers.title}.", notes, markdown_rows(papers)]
    return "\n\n".join(parts)


def published_files() -> str:
    """The addresses and licences of the published files."""
    files = {published.file: published for family in FAMILIES
             for several in find_family(family).PUBLISHED.values() for published in several}
    return table(("file", "licence", "downloaded from"), [
        (code(file), published.licence or "-", f"<{published.url or published.page}>")
        for file, published in files.items()])


def front_ends() -> str:
    """Every parameter of every front end: for each kind a table of what its rows share, and one of what they
    do not."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for row in FRONT_ENDS.values():
        kinds.setdefault(row.parameters()["kind"], []).append(row.parameters())
    parts = []
    for kind, rows in kinds.items():
        differ = [key for key in rows[0] if len({str(row[key]) for row in rows}) > 1]
        parts += [f"### Kind `{kind}`", table(("parameter", "value"), [
            (key, code(str(value))) for key, value in rows[0].items() if key not in ("kind", *differ)])]
        if differ:
            parts.append(table(differ, [[code(str(row[key])) for key in differ] for row in rows]))
    return "\n\n".join(parts)


# Definitions.

def terms_of(kind: str) -> Callable[[], str]:
    """A function that prints the terms of a kind of report, one paragraph each."""
    return lambda: "\n".join(
        textwrap.fill(f"- **{name}**: {text}".replace("<", "&lt;"), 118, subsequent_indent="  ",
                      break_long_words=False, break_on_hyphens=False)
        for name, text in TERMS[kind].items())


def figures_of(kind: str) -> Callable[[], str]:
    """A function that prints the figures of a kind of report."""
    return lambda: table(("in JSON", "in tables", "definition"), [
        (code(figure.key), figure.head, figure.definition)
        for figures in KIND_FIGURES[kind] for figure in figures])


BLOCKS: dict[str, Callable[[], str]] = {
    "commands": commands, "targets": targets, "boards": boards, "forced keys": forced_keys,
    "gates": keys_of(Gates), "budgets": keys_of(Budgets), "quantization": keys_of(Quantization),
    "openvino": keys_of(OpenVinoSettings), "tensorrt": keys_of(TensorRtSettings),
    "calibration": keys_of(CalibrationSet), "serving": keys_of(serving.Serving), "variants": variants,
    "paper": paper_figures,
    "files": published_files, "embeddings": embedding_kinds, "embedding sizes": embedding_sizes,
    "front ends": front_ends, "matrix settings": keys_of(Settings), "matrix cases": keys_of(CaseRow),
    **{f"{what} of {kind}": function(kind) for kind in ("measure", "parity", "export", "sensitivity")
       for what, function in (("terms", terms_of), ("figures", figures_of))},
}


def render(page: str) -> str:
    """The page with its generated parts as they are now. Raises `KeyError` for a part that BLOCKS lacks."""
    return BLOCK.sub(lambda match: f"<!-- make docs: {match['name']} -->\n\n{BLOCKS[match['name']]()}\n\n"
                                   "<!-- make docs end -->", page)


def main() -> None:
    """Write each page whose generated parts have changed."""
    for path in sorted(DOCS.glob("*.md")):
        before = path.read_text("utf-8")
        if (after := render(before)) != before:
            write_text(path, after)
            print(path.relative_to(DOCS.parent))


if __name__ == "__main__":
    main()
