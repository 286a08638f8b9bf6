"""Errors about state dicts whose names or shapes are not those of a model, with advice."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from satexport.errors import CheckpointError
from satexport.models.family import Shapes, StateFile, Variant
from satexport.models.resave import resave
from satexport.terminal import shown


def check_shapes(path: Path, variant: Variant, shapes: Shapes, expected: Shapes,
                 advise: Callable[[], str]) -> None:
    """Compare the shapes in a file with those that it should have. Raises `CheckpointError`, which names the
    first three mismatches and their number, and ends with the advice."""
    mismatches = [f"{key} is {shape}, expected {expected[key]}" if key in expected else
                  f"{shown(key)[1:-1]} {shape} is not expected"
                  for key, shape in shapes.items() if expected.get(key) != shape]
    mismatches += [f"{key} {shape} is missing" for key, shape in expected.items() if key not in shapes]
    if mismatches:
        more = f"; {len(mismatches)} mismatches in all" if len(mismatches) > 3 else ""
        raise CheckpointError(f"{path}: is not {variant.model} at {variant.window} s: "
                              f"{'; '.join(mismatches[:3])}{more}. {advise()}")


class Comparison(NamedTuple):
    """What a family knows about a state dict whose names have no prefix."""

    expected: Shapes          # what a state dict of the variant should have; {}: it is not of the family
    unused: Collection[str]   # further names that it may have, such as counters and heads that never run
    looks_like: str           # which model it looks like instead, and what to do


def find_prefixes(shapes: Shapes, marks: Iterable[str]) -> list[str]:
    """Return what stands in front of a family's marks in the names of a state dict, such as "module."."""
    return [key.removesuffix(mark) for key in shapes for mark in sorted(marks) if key.endswith(f".{mark}")]


def advise(shapes: Shapes, variant: Variant, file: StateFile, prefixes: Sequence[str],
           compare: Callable[[Shapes], Comparison]) -> str:
    """Describe which model a state dict that does not match the variant looks like, and what to do.
    `prefixes` stand in front of its names, in copies of the model if there are several; `compare` takes
    shapes whose names have no prefix."""
    prefix, sentences = "", []
    if prefixes:
        prefix = prefixes[0]
        sentences.append(f"Its weight names start with {' or '.join(map(shown, prefixes))}.")
        shapes = {key.removeprefix(prefix): shape for key, shape in shapes.items() if key.startswith(prefix)}
    expected, unused, looks = compare(shapes)
    matches = bool(expected) and all(shapes.get(key) == shape for key, shape in expected.items())
    extra = [key for key in shapes if key not in expected and key not in unused]
    if not matches and not prefix:
        return looks
    if not matches:
        sentences.append(looks)
    elif extra:
        sentences.append(f"It has all weights of a {variant.model}, and {len(extra)} more entries.")
    return " ".join((*sentences, save_needed(file, prefix, extra if matches else (), expected)))


def save_needed(file: StateFile, prefix: str = "", extra: Iterable[str] = (),
                expected: Shapes | None = None) -> str:
    """Return a sentence with code that saves a file's state dict again, without a prefix of its names and
    without the extra entries. `expected` has the entries that stay; all names are without the prefix."""
    code = resave(file.load, file.save, prefix, _exclude(list(extra), expected or {}, prefix))
    return f"Save only what is needed: {code}"


def _exclude(extra: list[str], expected: Shapes, prefix: str) -> list[str]:
    """Return the conditions, in Python, that leave out the extra entries. Lists their names or, if there are
    many and each has a part that no weight's name has, these parts."""
    if not extra:
        return []
    known = {part for key in expected for part in key.split(".")}
    unknown = {next((part for part in key.split(".") if part not in known), "") for key in extra}
    if len(extra) > 3 and "" not in unknown:
        name = f"k.removeprefix({prefix!r})" if prefix else "k"
        return [f"not {{{str(sorted(unknown))[1:-1]}}} & set({name}.split('.'))"]
    return [f"k not in {[prefix + key for key in extra]}"]


def looks_like(similar: Sequence[Variant], variant: Variant, nothing: str) -> str:
    """Return which of the variants a file looks like, and what to do: a sentence. `nothing` is the sentence
    if there are none."""
    if not similar:
        return nothing
    if any(v.chunk_name == variant.chunk_name for v in similar):
        return ("It looks like this model, but the file is incomplete or was changed: save the whole state "
                "dict.")
    models = list(dict.fromkeys(v.model for v in similar))
    delays = " or ".join(dict.fromkeys(f"{v.delay} s" for v in similar))
    is_unsure = len(models) > 1 or (len(similar) > 1 and similar[0].memory_steps > 0)
    unsure = " (the shapes do not tell which)" if is_unsure else ""
    return f"This looks like {' or '.join(models)} at {delays}{unsure}: {advise_variant(similar, variant)}."


def advise_variant(similar: Sequence[Variant], variant: Variant) -> str:
    """Return the options that choose one of these variants, at the delay and with the window of `variant` if
    it has them."""
    guess = next((v for v in similar if v.delay == variant.window), similar[0])
    if variant.window == variant.delay or guess.memory_steps or guess.window != variant.window:
        return f"pass --model {guess.model} --delay {guess.delay}"
    return f"pass --model {guess.model} --window {variant.window} --delay {variant.delay}"
