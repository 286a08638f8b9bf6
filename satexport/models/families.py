"""The families of models: the one place that names them. To add one, add its line to FAMILIES."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

from satexport.bundle.contract import USUAL_OPTIONS, Contract, GraphOptions
from satexport.errors import BundleError, UsageError, made_by_newer
from satexport.models.claims import PaperFigures
from satexport.models.family import Checkpoint, Family, Published, Reference, Shapes, Variant

FAMILIES = {  # name -> module that meets `Family`
    "sat": "satexport.models.sat.family",
    "ast": "satexport.models.ast.family",
    "efficientat": "satexport.models.efficientat.family",
    "passt": "satexport.models.passt.family",
    "beats": "satexport.models.beats.family",
    "htsat": "satexport.models.htsat.family",
}
USUAL_DELAY = 2   # s
WINDOW_DELAY = 1  # s, with a window: scores as fresh as the models have them
_NAME = re.compile(r"(?P<model>.+?)-(?P<delay>[0-9]{1,4})s(?:-window-(?P<window>[0-9]{1,4})s)?")
_MISSING = {"cache": "cache", "input": "other input", "streams": "graph for several streams"}  # by option


def find_family(name: str) -> Family[Any]:
    """Return the family of this name. Raises `BundleError` if there is none, because only bundles name a
    family."""
    if name not in FAMILIES:
        raise made_by_newer(f"the model is of the family {name!r}, which this satexport does not have (it "
                            f"has {', '.join(FAMILIES)})")
    return cast(Family[Any], importlib.import_module(FAMILIES[name]))


def all_variants() -> list[Variant]:
    """Return the published variants of all families."""
    return [variant for name in FAMILIES for variant in find_family(name).VARIANTS.values()]


def find_variant(model: str, delay: int | None = None, window: int | None = None) -> Variant:
    """Return the variant of a model, such as "sat-t" or "sat-t-48x3", at a delay and with a window in
    seconds. If the delay is None, it is USUAL_DELAY, or the model's first delay if the model does not have
    that one; with a window it is WINDOW_DELAY. If the window is None, it is as long as the delay. Raises
    `UsageError` if the model, delay or window does not exist or the size is impossible; its message lists
    what exists."""
    variants = next(filter(None, (find_family(name).find_model(model) for name in FAMILIES)), {})
    if not variants:
        models = sorted({variant.model for variant in all_variants()})
        raise UsageError(f"unknown model {model!r}; the models are {', '.join(models)}.")
    if window is not None:
        return _with_window(model, variants, WINDOW_DELAY if delay is None else delay, window)
    if delay is None:
        delay = USUAL_DELAY if USUAL_DELAY in variants else next(iter(variants))
    if delay not in variants:
        raise UsageError(f"{model} has no delay of {delay} s; it has {_listed(variants)}.")
    return cast(Variant, variants[delay])


def _with_window(model: str, variants: Mapping[int, Any], delay: int, window: int) -> Variant:
    """Return the variant whose step takes the last `window` seconds every `delay` seconds."""
    if any(variant.memory_steps for variant in variants.values()):
        raise UsageError(f"{model} keeps a cache of what it heard before: leave --window out.")
    if window not in variants:
        raise UsageError(f"{model} has no window of {window} s; it has {_listed(variants)}.")
    if not 1 <= delay <= window:
        raise UsageError(f"--delay {delay} --window {window}: expected a delay from 1 s to the window.")
    return cast(Variant, replace(variants[window], delay=delay))


def _listed(variants: Mapping[int, Any]) -> str:
    return ", ".join(map(str, sorted(variants)))


def named_variant(name: str) -> Variant:
    """Return the variant of this name, such as "sat-t-2s" or "vit-t-1s-window-10s". Raises `UsageError` if
    there is none."""
    if found := _NAME.fullmatch(name):
        with suppress(UsageError):
            window = int(found["window"]) if found["window"] else None
            variant = find_variant(found["model"], int(found["delay"]), window)
            if variant.name == name:
                return variant
    raise UsageError(f"{name!r} is not a variant; expected a model and its delay, such as sat-t-2s.")


def find_contract_variant(contract: Contract) -> Variant:
    """Return the variant of a graph. Raises `BundleError` if this version does not know it."""
    find_family(contract.family)
    try:
        return named_variant(contract.variant)
    except UsageError:
        raise made_by_newer(f"the model is a {contract.variant!r}, which this satexport does not have"
                            ) from None


def resembling(shapes: Shapes) -> list[Variant]:
    """Return the variants of all families that a state dict of these shapes could belong to."""
    return [variant for name in FAMILIES for variant in find_family(name).resembles(shapes)]


def identify(shapes: Shapes) -> dict[str, str]:
    """Return what a state dict of these shapes is if it resembles no variant, a sentence by family; empty
    if it resembles one or no family knows it."""
    if resembling(shapes):
        return {}
    sentences = {name: find_family(name).identify(shapes) for name in FAMILIES}
    return {name: sentence for name, sentence in sentences.items() if sentence}


def all_hub_types() -> frozenset[str]:
    """Return the model types that config.json of a repository on the Hub may state, for all variants."""
    return frozenset[str]().union(*(hub_types(variant) for variant in all_variants()))


def hub_types(variant: Variant) -> frozenset[str]:
    """Return the model types that config.json of a repository with weights of the variant may state."""
    return find_family(variant.family).hub_types(variant)


def models_of_type(types: frozenset[str]) -> list[str]:
    """Return the published models whose weights a repository with one of these model types may contain."""
    return list(dict.fromkeys(variant.model for variant in all_variants() if hub_types(variant) & types))


def marks() -> frozenset[str]:
    """Return the weight names by which the state dicts of all families are recognised."""
    return frozenset[str]().union(*(find_family(name).MARKS for name in FAMILIES))


def published_files(variant: Variant) -> Sequence[Published]:
    """Return the public checkpoints of a variant, the recommended one first; empty if there is none."""
    return find_family(variant.family).PUBLISHED.get(variant.chunk_name, ())


def models_of_file(file: str) -> list[str]:
    """Return the models of which a file of this name is a public checkpoint."""
    return list(dict.fromkeys(
        variant.model for variant in all_variants()
        if any(published.file == file for published in published_files(variant))))


def refusal(file: str, shapes: Shapes) -> str:
    """Return why a file of weights is not supported, a sentence, if a family knows it; else ""."""
    return next(filter(None, (find_family(name).refuse(file, shapes) for name in FAMILIES)), "")


def make_reference(checkpoint: Checkpoint[Any], embedding: str = "") -> Reference:
    """Return the published model with these weights, which also computes an embedding of this kind."""
    return find_family(checkpoint.variant.family).reference(checkpoint, embedding)


def choose_embedding(variant: Variant, word: str | None) -> str:
    """Return the kind of embedding that `--embedding` asks for. The word is a kind, "" for the variant's
    first one, or None for none, which gives "". Raises `UsageError` if the variant does not have it; its
    message lists the kinds."""
    if word is None:
        return ""
    kinds = find_embeddings(variant)
    kind = word or next(iter(kinds), "")
    if kind not in kinds:
        which = f" {kind!r}" if kind else ""
        expected = f"; expected {' or '.join(kinds)}, or" if kinds else ":"
        raise UsageError(f"{variant.name} has no embedding{which}{expected} leave --embedding out.")
    return kind


def find_embeddings(variant: Variant) -> Mapping[str, str]:
    """Return the kinds of embeddings that a graph of the variant can have, the default first, each with a
    phrase that says what it is."""
    return find_family(variant.family).embeddings(variant)


def paper_figures(variant: Variant) -> Sequence[PaperFigures]:
    """Return the figures that papers give for a step of the variant, one entry for each paper; empty if none
    does."""
    return find_family(variant.family).PAPER.get(variant.chunk_name, ())


def find_paper_figures(contract: Contract) -> Sequence[PaperFigures]:
    """Return the same for a step of a graph; empty also if this version does not know its variant."""
    try:
        return paper_figures(find_contract_variant(contract))
    except BundleError:
        return ()


def check_options(variant: Variant, options: GraphOptions) -> None:
    """Raise `UsageError` for an option of the graph, or a kind of embedding, that the variant does not
    have."""
    allowed = find_family(variant.family).options(variant)
    for name, missing in _MISSING.items():
        if getattr(options, name) != getattr(USUAL_OPTIONS, name) and name not in allowed:
            raise UsageError(f"{variant.name} has no {missing}: leave --{name} out.")
    choose_embedding(variant, options.embedding or None)
