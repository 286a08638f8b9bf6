"""The families of models, and a variant of any of them by name."""

from __future__ import annotations

import re
from dataclasses import replace

from satexport.errors import UsageError
from satexport.models.sat.variants import VARIANTS, Variant

MODELS = sorted({model for model, _ in VARIANTS})
_WIDEST = 1024  # of a model of another width
_RESIZED = re.compile(r"(?P<model>(?:sat|vit)-[tsb])-(?P<width>[1-9][0-9]{0,3})x(?P<heads>[1-9][0-9]{0,3})")


def find_variant(model: str, delay: int) -> Variant:
    """Return the variant of a model, "sat-t" or "sat-t-48x3", at a delay in seconds. Raises `UsageError` that
    names the models or delays that exist, or says which widths can be."""
    resized = _RESIZED.fullmatch(model)
    published = resized["model"] if resized else model
    if published not in MODELS:
        raise UsageError(f"unknown model {model!r}; the models are {', '.join(MODELS)}.")
    if (published, delay) not in VARIANTS:
        delays = ", ".join(str(d) for m, d in sorted(VARIANTS) if m == published)
        raise UsageError(f"{model} has no delay of {delay} s; it has {delays}.")
    variant = VARIANTS[published, delay]
    if not resized:
        return variant
    width, heads = int(resized["width"]), int(resized["heads"])
    if width % heads or width > _WIDEST:
        raise UsageError(f"{model}: expected a width up to {_WIDEST} that its number of heads divides.")
    return replace(variant, model=model, width=width, heads=heads)


def named_variant(name: str) -> Variant:
    """Return the variant by its own name, such as "sat-t-2s". Raises `UsageError` where it is none."""
    model, _, delay = name.rpartition("-")
    if not re.fullmatch(r"[1-9][0-9]?s", delay):
        raise UsageError(f"{name!r} is no variant; expected a model and its delay, such as sat-t-2s.")
    return find_variant(model, int(delay[:-1]))
