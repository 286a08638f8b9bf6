"""`satexport models`: the variants, and what the paper says of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from satexport.commands.console import print_json, reader_may_leave
from satexport.commands.options import json_option

if TYPE_CHECKING:
    from satexport.models.sat.variants import Variant

SHAPES = ("model", "delay", "tokens new/cached", "width", "heads", "pooling", "chunks remembered", "cache MB")
CLAIMS = ("model", "delay", "GFLOPs", ("memory", "MB"), "mAP", "published file")


@click.command("models")
@json_option
def models_command(as_json: bool) -> None:
    """List the models: sizes, caches, the paper's figures.

    \b
    Examples:
      satexport models
      satexport models --json
    """
    from satexport.models.sat.paper import DIFFERENCE
    from satexport.models.sat.variants import VARIANTS
    from satexport.report.terminal import print_table

    by_size = sorted(VARIANTS.values(), key=lambda v: (v.width, v.model, v.delay))
    models = [_facts(variant) for variant in by_size]
    with reader_may_leave():
        if as_json:
            print_json({"models": models})
        else:
            print_table(f"{len(models)} variants: a model at a delay; the cache as fp32 keys and values",
                        SHAPES, [_shape(facts) for facts in models])
            print_table("the paper's figures (its Table 2; nothing here was measured by satexport)",
                        CLAIMS, [_claim(facts) for facts in models])
            click.echo(DIFFERENCE)


def _facts(variant: Variant) -> dict[str, Any]:
    """What is known of a variant without a checkpoint."""
    from satexport.models.published import PUBLISHED
    from satexport.models.sat.paper import PAPER

    return {
        "name": variant.name, "model": variant.model, "delay": variant.delay,
        "new_tokens": variant.new_tokens, "cache_tokens": variant.cache_tokens,
        "width": variant.width, "heads": variant.heads, "pooling": variant.pooling,
        "memory_steps": variant.memory_steps, "cache_bytes": cache_bytes(variant),
        "paper": dataclasses.asdict(PAPER[variant.name]),
        "file": PUBLISHED[variant.name if variant.has_cache else variant.model],
    }


def cache_bytes(variant: Variant) -> int:
    """Size of one stream's cache as fp32 keys and values of every layer; a layer 0 that keeps hidden
    tokens has one tensor of that size in place of two."""
    from satexport.models.sat.variants import DEPTH

    tensors = 2 * DEPTH - variant.keeps_hidden_layer_0
    return tensors * variant.cache_tokens * variant.width * 4


def _shape(facts: dict[str, Any]) -> list[str]:
    remembered, size = "-", "-"
    if facts["cache_tokens"]:
        remembered, size = f"{facts['memory_steps']}", f"{facts['cache_bytes'] / 1e6:.2f}"
    return [facts["model"], f"{facts['delay']} s", f"{facts['new_tokens']}/{facts['cache_tokens']}",
            f"{facts['width']}", f"{facts['heads']}", facts["pooling"], remembered, size]


def _claim(facts: dict[str, Any]) -> list[str]:
    paper = facts["paper"]
    return [facts["model"], f"{facts['delay']} s", f"{paper['gflops']:g}", f"{paper['memory_mb']:g}",
            f"{paper['map']:.1f}", facts["file"]]
