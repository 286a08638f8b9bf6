"""`satexport models`: list the variants of models and the figures of their papers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from satexport.commands.console import ignore_closed_pipe, print_json
from satexport.commands.options import json_option

if TYPE_CHECKING:
    from satexport.models.family import Variant

CLAIMS = ("model", "delay", "GFLOPs", ("memory", "MB"), "mAP", "published file", "licence")


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

    facts = [list_facts(variant) for variant in all_variants()]
    with ignore_closed_pipe():
        if as_json:
            print_json({"models": facts})
            return
        for _, variants in groupby(facts, key=lambda facts: str(facts["family"])):
            _print_family(list(variants))


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


def _print_family(variants: Sequence[dict[str, Any]]) -> None:
    """Print the variants of one family and the figures of its papers."""
    from satexport.models.families import find_family, named_variant
    from satexport.report.blocks import Table
    from satexport.report.terminal import print_table

    family = str(variants[0]["family"])
    details = list(find_family(family).describe(named_variant(variants[0]["name"])))
    print_table(Table(
        title=f"{len(variants)} variants of {family}: a model at a delay; the cache in fp32",
        head=("model", "delay", "tokens new/cached", *details, "chunks in cache", "cache MB"),
        rows=[_variant_row(facts, details) for facts in variants]))
    papers = [facts["paper"] for facts in variants if facts["paper"]]
    if papers:
        sources = " and ".join(dict.fromkeys(paper["source"] for paper in papers))
        print_table(Table(title=f"figures of the paper ({sources}); none was measured by satexport",
                          head=CLAIMS,
                          rows=[_claim(facts) for facts in variants if facts["paper"]]))
        for text in dict.fromkeys(paper["note"] for paper in papers):
            click.echo(text)


def _variant_row(facts: Mapping[str, Any], details: Sequence[str]) -> list[str]:
    steps, size = "-", "-"
    if facts["cache_bytes"]:
        steps, size = f"{facts['memory_steps']}", f"{facts['cache_bytes'] / 1e6:.2f}"
    return [facts["model"], f"{facts['delay']} s", f"{facts['new_tokens']}/{facts['cache_tokens']}",
            *(f"{facts[name]}" for name in details), steps, size]


def _claim(facts: Mapping[str, Any]) -> list[str]:
    paper = facts["paper"]
    figures = ("-" if paper[key] is None else f"{paper[key]:g}" for key in ("gflops", "memory_mb"))
    return [facts["model"], f"{facts['delay']} s", *figures, f"{paper['map']:.1f}", facts["file"] or "-",
            facts["licence"] or "-"]
