"""Which PaSST a state dict of given shapes is, and advice on one that does not fit a variant."""

from __future__ import annotations

from satexport.audio.labels import audioset_labels
from satexport.models.family import Shapes, StateFile
from satexport.models.mismatch import Comparison, advise, find_prefixes, looks_like
from satexport.models.passt.keys import (
    AVERAGED,
    FREQUENCY,
    HEAD,
    MARKS,
    PREFIXES,
    TIME,
    UNUSED,
    expected_shapes,
    find_prefix,
    without_prefix,
)
from satexport.models.passt.variants import VARIANTS, Variant, models_alike
from satexport.models.transformer_size import BASE, ask_for_heads, count_blocks


def resembles(shapes: Shapes) -> list[Variant]:
    """Return the published variants that a state dict of these shapes could belong to. The tables of
    positions tell strides and lengths, except that those for 20 s and for a hop of 160 samples are alike."""
    prefix = find_prefix(shapes)
    if prefix is None:
        return []
    shapes = without_prefix(shapes, prefix)
    tables, depth = (shapes.get(FREQUENCY), shapes[TIME]), count_blocks(shapes)
    return [variant for variant in VARIANTS.values()
            if (tables, depth) == (_tables(variant), variant.depth)]


def _tables(variant: Variant) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of the tables of positions."""
    return (1, variant.width, variant.rows, 1), (1, variant.width, 1, variant.table_columns)


def identify(shapes: Shapes) -> str:
    """Return which PaSST of another size a state dict is, as `Family.identify` defines."""
    prefix = find_prefix(shapes)
    if prefix is None:
        return ""
    shapes = without_prefix(shapes, prefix)
    (width, mlp), depth = _widths(shapes), count_blocks(shapes)
    tables = shapes.get(FREQUENCY, ())[2:3], shapes[TIME][3:4]
    models = dict.fromkeys(other.model for other in VARIANTS.values() if other.depth == BASE.depth
                           and tables == ((other.rows,), (other.table_columns,)))
    size = f"{width}xHEADSx{depth}x{mlp}"
    return ask_for_heads("a PaSST", width, depth, [f"{model}-{size}" for model in models])


def refuse(file: str, shapes: Shapes) -> str:
    """Return why a file with weights of these shapes is not supported: the model inside has other tables of
    positions, or no head."""
    prefix = find_prefix(shapes)
    if prefix is None:
        return ""
    shapes = without_prefix(shapes, prefix)
    found = (shapes.get(FREQUENCY, ())[2:3], shapes[TIME][3:4])
    known = list(dict.fromkeys((variant.rows, variant.table_columns) for variant in VARIANTS.values()))
    if (*found[0], *found[1]) not in known:
        rows, columns = ("".join(map(str, size)) or "no" for size in found)
        return (f"is a PaSST for other audio: its tables of positions have {rows} rows and {columns} "
                f"columns, which is not supported; expected {' or '.join(f'{r} and {c}' for r, c in known)}.")
    if not any(key.startswith("head.") for key in shapes):
        return ("is a PaSST without a head, which gives no scores; expected one that was trained to "
                "classify.")
    return ""


def caution(variant: Variant, shapes: Shapes, is_sure: bool) -> str:
    """Return what `Family.caution` defines."""
    sentences = []
    if all(prefix + TIME in shapes for prefix in PREFIXES if prefix):
        sentences.append(f"The file has weights under {' and '.join(filter(None, PREFIXES))}: those under "
                         f"{AVERAGED}, averaged over the training, are used.")
    if (others := models_alike(variant)) and not is_sure:
        sentences.append(f"Checkpoints of {variant.model} and of {', '.join(others)} have the same shapes: "
                         f"make sure that this one is {variant.model}, because another front end gives other "
                         "scores.")
    if variant.width != BASE.width:
        sentences.append("The shapes of a PaSST do not show its number of heads: make sure that this one has "
                         f"{variant.heads}.")
    text = " ".join(sentences)
    return text[:1].lower() + text[1:]


def shapes_like(shapes: Shapes, variant: Variant) -> Shapes:
    """Return the shapes that a state dict of the variant should have; the number of classes comes from the
    state dict."""
    head = shapes.get(HEAD, ())
    return expected_shapes(variant, head[0] if len(head) == 2 and head[0] else len(audioset_labels()))


def advice(file: StateFile, variant: Variant) -> str:
    """Describe which model a state dict that does not match the variant looks like, and what to do."""
    def compare(inner: Shapes) -> Comparison:
        if TIME not in inner:
            return Comparison({}, (), "It is not a PaSST: `satexport models` lists what can be exported.")
        return Comparison(shapes_like(inner, variant), UNUSED, _looks_like(inner, variant))

    prefix = find_prefix(file.shapes)
    if prefix is None:
        return advise(file.shapes, variant, file, find_prefixes(file.shapes, MARKS), compare)
    inner = without_prefix(file.shapes, prefix)
    expected = compare(inner).expected
    is_complete = all(inner.get(key) == shape for key, shape in expected.items())  # it has surplus entries
    if is_complete and prefix:
        return advise(file.shapes, variant, file, [prefix], compare)
    return advise(inner, variant, file, [], compare)


def _looks_like(shapes: Shapes, variant: Variant) -> str:
    """Return which PaSST a state dict looks like: a published one, or one of another size, by its name."""
    size, tables = (count_blocks(shapes), _widths(shapes)[1]), (shapes.get(FREQUENCY), shapes[TIME])
    if (tables, size) == (_tables(variant), (variant.depth, variant.mlp)):
        return looks_like([variant], variant, "")
    return looks_like(resembles(shapes), variant, identify(shapes))


def _widths(shapes: Shapes) -> tuple[int, int]:
    """Return the length of a token and the number of hidden units; 0: unknown."""
    return (*shapes[TIME], 0, 0)[1], (*shapes.get("blocks.0.mlp.fc1.weight", ()), 0)[0]
