"""Which HTS-AT a state dict of given shapes is, and advice on one that does not fit a variant."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from satexport.audio.labels import audioset_labels
from satexport.errors import UsageError
from satexport.models.family import Shapes, StateFile
from satexport.models.htsat.keys import HEAD_WEIGHT, MARKS, expected_shapes, find_prefix, is_unused
from satexport.models.htsat.published import PAGE
from satexport.models.htsat.variants import DEEPEST, DEPTHS, HEADS, WIDTH, Variant, find_model, size_name
from satexport.models.mismatch import Comparison, advise, find_prefixes, looks_like

_CLAP: Final = ("audio_branch.", "audio_model.audio_encoder.")  # in names of LAION's files, of transformers


def resembles(shapes: Shapes) -> list[Variant]:
    """Return the variants of the size that a state dict shows: with its heads, which are in the shapes."""
    model = _find_model_name(shapes)
    with suppress(UsageError):
        return list(find_model(model).values()) if model else []
    return []


def _find_model_name(shapes: Shapes) -> str:
    """Return the name of the model of a state dict's size; "" if it is not an HTS-AT's."""
    prefix = find_prefix(shapes)
    if prefix is None:
        return ""
    block = f"{prefix}layers.{{}}.blocks.{{}}.attn.relative_position_bias_table"
    tables = [[shapes[key] for number in range(DEEPEST + 1) if (key := block.format(stage, number)) in shapes]
              for stage in range(len(DEPTHS))]
    width = (*shapes.get(f"{prefix}patch_embed.proj.weight", ()), 0)[0]
    heads = tuple((*stage[0], 0, 0)[1] if stage else 0 for stage in tables)
    depths = tuple(map(len, tables))
    is_published = (width, heads, depths) == (WIDTH, HEADS, DEPTHS)
    return "htsat" if is_published else size_name(width, heads, depths)


def identify(shapes: Shapes) -> str:
    """Return what an HTS-AT is whose shapes show an impossible size, as `Family.identify` defines."""
    return "" if find_prefix(shapes) is None else (
        f"It is an HTS-AT of a size that is not supported; published is one of width {WIDTH} with "
        f"{', '.join(map(str, DEPTHS))} blocks.")


def refuse(file: str, shapes: Shapes) -> str:
    """Return why a file with weights of these shapes is not supported: a CLAP has an HTS-AT inside, and a
    file may have only that part of it."""
    if any(part in key for key in shapes for part in _CLAP):
        return ("is a CLAP model: an HTS-AT for 48 kHz that was trained with texts, which does not score the "
                "classes of AudioSet; expected an HTS-AT that was trained to tag, such as those linked from "
                f"{PAGE}.")
    return ""


def shapes_like(shapes: Shapes, variant: Variant, prefix: str) -> Shapes:
    """Return the shapes that a state dict of the variant should have, without what `is_unused`; the number of
    classes comes from the state dict."""
    head = shapes.get(prefix + HEAD_WEIGHT, ())
    classes = head[0] if len(head) == 4 and head[0] else len(audioset_labels())
    return {prefix + key: shape for key, shape in expected_shapes(variant, classes).items()}


def without_unused(shapes: Shapes, prefix: str) -> Shapes:
    """Return the shapes of the entries that are weights, or unknown."""
    return {key: shape for key, shape in shapes.items() if not is_unused(key.removeprefix(prefix))}


def advice(shapes: Shapes, variant: Variant, file: StateFile) -> str:
    """Describe which model a state dict that does not match the variant looks like, and what to do."""
    def compare(inner: Shapes) -> Comparison:
        prefix = find_prefix(inner)
        if prefix is None:
            return Comparison({}, (), "It is not an HTS-AT: `satexport models` lists what can be exported.")
        return Comparison(shapes_like(inner, variant, prefix), _unused(inner, prefix),
                          _looks_like(inner, variant))

    prefixes = find_prefixes(shapes, MARKS) if find_prefix(shapes) is None else []
    return advise(shapes, variant, file, prefixes, compare)


def _unused(shapes: Shapes, prefix: str) -> Sequence[str]:
    return [key for key in shapes if is_unused(key.removeprefix(prefix))]


def _looks_like(shapes: Shapes, variant: Variant) -> str:
    return looks_like(resembles(shapes), variant, identify(shapes))
