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
    from satexport.report.blocks import Table


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
            tables = filter(None, (sizes_table(variants), papers_table(variants)))
            print_blocks([*tables, *paper_notes(variants)])


def list_facts(variant: Variant) -> dict[str, Any]:
    """Return the facts of a variant that need no checkpoint."""
    from satexport.audio.labels import audioset_labels
    from satexport.bundle.contract import USUAL_OPTIONS, cache_bytes
    from satexport.models.families import find_family

    family = find_family(variant.family)
    interface = family.interface(variant, len(audioset_labels()), USUAL_OPTIONS)
    paper, published = family.PAPER.get(variant.name), family.PUBLISHED.get(variant.name)
    return {
        "name": variant.name, "family": variant.family, "model": variant.model, "delay": variant.delay,
        "sample_rate": variant.sample_rate, "front_end": variant.front_end,
        "new_tokens": interface.tokens["new"], "cache_tokens": interface.tokens["cached"],
        **family.describe(variant),
        "memory_steps": variant.memory_steps, "cache_bytes": cache_bytes(interface.cache_in),
        "paper": asdict(paper) if paper else None, "file": published.file if published else None,
        "licence": published.licence if published else None,
    }


def group_by_family(facts: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the facts of the variants of each family."""
    return [list(group) for _, group in groupby(facts, key=lambda fact: str(fact["family"]))]


def sizes_table(variants: Sequence[Mapping[str, Any]]) -> Table:
    """Return the table of the variants of one family."""
    from satexport.models.families import find_family, named_variant
    from satexport.report.blocks import Table

    family = str(variants[0]["family"])
    details = list(find_family(family).describe(named_variant(variants[0]["name"])))
    return Table(
        title=f"{len(variants)} variants of the family {family}: a model at a delay; the cache in fp32",
        texts=2,
        head=("model", "delay", "tokens new/cached", *details, "remembered chunks", "cache, MB"),
        rows=[_variant_row(facts, details) for facts in variants])


def papers_table(variants: Sequence[Mapping[str, Any]]) -> Table | None:
    """Return the table of the figures that papers give for the variants of one family, or None without
    any."""
    from satexport.report.blocks import Table

    if not (named := [facts for facts in variants if facts["paper"]]):
        return None
    sources = " and ".join(dict.fromkeys(facts["paper"]["source"] for facts in named))
    return Table(title=f"figures of the papers ({sources}); none was measured by satexport", texts=2,
                 head=("model", "delay", "GFLOPs", "memory, MB", "mAP", "published file", "licence"),
                 rows=[_paper_row(facts) for facts in named])


def paper_notes(variants: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what must be known of these figures, in sentences."""
    return list(dict.fromkeys(facts["paper"]["note"] for facts in variants if facts["paper"]))


def _variant_row(facts: Mapping[str, Any], details: Sequence[str]) -> list[str]:
    steps, size = "-", "-"
    if facts["cache_bytes"]:
        steps, size = f"{facts['memory_steps']}", f"{facts['cache_bytes'] / 1e6:.2f}"
    return [facts["model"], f"{facts['delay']} s", f"{facts['new_tokens']}/{facts['cache_tokens']}",
            *(f"{facts[name]}" for name in details), steps, size]


def _paper_row(facts: Mapping[str, Any]) -> list[str]:
    paper = facts["paper"]
    figures = ("-" if paper[key] is None else f"{paper[key]:g}" for key in ("gflops", "memory_mb"))
    return [facts["model"], f"{facts['delay']} s", *figures, f"{paper['map']:.1f}", facts["file"] or "-",
            facts["licence"] or "-"]
