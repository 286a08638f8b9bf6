"""`satexport models`: list the variants of models and the figures of their papers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from satexport.commands.console import ignore_closed_pipe, print_json
from satexport.commands.options import json_option

if TYPE_CHECKING:
    from satexport.models.family import Variant
    from satexport.report.table import Table

_CLAIMS = {"gflops": "g", "memory_mb": "g", "map": ".1f"}  # figures of `PaperFigures` -> how they are written


@click.command("models")
@json_option
def models_command(as_json: bool) -> None:
    """List the models: sizes, caches and the figures of their papers.

    \b
    Examples:
      satexport models
      satexport models --json
    """
    from satexport.models.families import all_variants
    from satexport.report.terminal import print_blocks

    facts = [list_facts(variant) for variant in all_variants()]
    with ignore_closed_pipe():
        if as_json:
            print_json({"models": facts})
            return
        for variants in group_by_family(facts):
            tables = filter(None, (sizes_table(variants), files_table(variants), papers_table(variants)))
            print_blocks([*tables, *paper_notes(variants)])


def list_facts(variant: Variant) -> dict[str, Any]:
    """Return the facts of a variant that need no checkpoint."""
    from satexport.audio.labels import audioset_labels
    from satexport.bundle.contract import USUAL_OPTIONS, cache_bytes
    from satexport.models.families import find_family, paper_figures, published_files

    family, classes = find_family(variant.family), len(audioset_labels())
    interface = family.interface(variant, classes, USUAL_OPTIONS)
    files = published_files(variant)
    return {
        "name": variant.name, "family": variant.family, "model": variant.model, "delay": variant.delay,
        "sample_rate": variant.sample_rate, "front_end": variant.front_end,
        "new_tokens": interface.tokens.get("new"), "cache_tokens": interface.tokens.get("cached"),
        "parameters": family.count_parameters(variant, classes), **family.describe(variant),
        "embeddings": dict(family.embeddings(variant)),
        "memory_steps": variant.memory_steps, "cache_bytes": cache_bytes(interface.cache_in),
        "papers": [asdict(figures) | {"source": figures.source} for figures in paper_figures(variant)],
        "files": [published.file for published in files],
        "licence": files[0].licence if files else None,
    }


def group_by_family(facts: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the facts of the variants of each family."""
    return [list(group) for _, group in groupby(facts, key=lambda fact: str(fact["family"]))]


def sizes_table(variants: Sequence[Mapping[str, Any]]) -> Table:
    """Return the table of the models of one family: a row per model, or per delay if the model has a
    cache."""
    from satexport.models.families import find_family, named_variant
    from satexport.report.table import Table

    family = str(variants[0]["family"])
    details = list(find_family(family).describe(named_variant(variants[0]["name"])))
    rows = [list(group) for _, group in groupby(
        variants, key=lambda facts: (facts["model"], facts["cache_bytes"] and facts["delay"]))]
    has_cache = any(facts["cache_bytes"] for facts in variants)
    has_tokens = any(facts["new_tokens"] for facts in variants)
    rates = " or ".join(dict.fromkeys(f"{facts['sample_rate']} Hz" for facts in variants))
    head = ["model", "delay, s", "tokens", "weights, M", *details, "embeddings", "cache, MB", "chunks"]
    hidden = ({"tokens"} if not has_tokens else set()) | (set() if has_cache else {"cache, MB", "chunks"})
    shown = [column for column, name in enumerate(head) if name not in hidden]
    note = "; tokens new/cached; cache in fp32, over so many earlier chunks" if has_cache else ""
    return Table(
        title=f"family {family}, {rates}{note}", texts=2, head=[head[column] for column in shown],
        rows=[[row[column] for column in shown] for row in (_sizes_row(group, details) for group in rows)])


def papers_table(variants: Sequence[Mapping[str, Any]]) -> Table | None:
    """Return the table of the figures that papers give for the variants of one family, or None without
    any."""
    from satexport.report.table import Table

    papers = [(facts, paper) for facts in variants for paper in facts["papers"]
              if any(paper[key] is not None for key in _CLAIMS)]
    if not papers:
        return None
    return Table(title="figures of the papers; none was measured by satexport", texts=3,
                 head=("model", "delay, s", "paper", "GFLOPs", "memory, MB", "mAP"),
                 rows=[_paper_row(facts, paper) for facts, paper in papers])


def files_table(variants: Sequence[Mapping[str, Any]]) -> Table | None:
    """Return the table of the public checkpoints of one family, or None without any."""
    from satexport.report.table import Table

    files: dict[str, list[Mapping[str, Any]]] = {}
    for facts in variants:
        for file in facts["files"]:
            files.setdefault(file, []).append(facts)
    if not files:
        return None
    rows = [[_join(facts["model"] for facts in users), _join(facts["delay"] for facts in users), file,
             users[0]["licence"] or "-"] for file, users in files.items()]
    return Table(title="public checkpoints; `--checkpoint published` takes the first of a model",
                 texts=4, head=("model", "delay, s", "file", "licence"), rows=rows)


def paper_notes(variants: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what must be known of these figures, in sentences."""
    return list(dict.fromkeys(paper["note"] for facts in variants for paper in facts["papers"]
                              if paper["note"]))


def _sizes_row(variants: Sequence[Mapping[str, Any]], details: Sequence[str]) -> list[str]:
    """Return the row of a model at one delay, or at several that differ only in their tokens."""
    first = variants[0]
    tokens, size, steps = _join(facts["new_tokens"] for facts in variants), "-", "-"
    if first["cache_bytes"]:
        tokens = f"{tokens}/{first['cache_tokens']}"
        size, steps = f"{first['cache_bytes'] / 1e6:.2f}", f"{first['memory_steps']}"
    return [first["model"], _join(facts["delay"] for facts in variants), tokens,
            f"{first['parameters'] / 1e6:.2f}", *(f"{first[name]}" for name in details),
            _join(first["embeddings"]), size, steps]


def _paper_row(facts: Mapping[str, Any], paper: Mapping[str, Any]) -> list[str]:
    figures = ("-" if paper[key] is None else format(paper[key], form) for key, form in _CLAIMS.items())
    return [facts["model"], f"{facts['delay']}", paper["source"], *figures]


def _join(values: Iterable[object]) -> str:
    """Return the distinct values, separated by commas."""
    return ", ".join(dict.fromkeys(map(str, values)))
