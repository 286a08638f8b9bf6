"""Which AST a state dict of given shapes is, and advice on one that does not fit a variant."""

from __future__ import annotations

from dataclasses import replace

from satexport.audio.labels import audioset_labels
from satexport.models.ast.keys import HEAD, MARKS, POSITION, Format, find_format
from satexport.models.ast.variants import (
    STRIDES,
    VARIANTS,
    Variant,
    find_model,
    token_count,
)
from satexport.models.family import Shapes, StateFile
from satexport.models.mismatch import Comparison, advise, find_prefixes, looks_like
from satexport.models.patches import PATCH
from satexport.models.transformer_size import ask_for_heads, count_blocks

SPEECH_COMMANDS = 146  # rows of the position table of 128 frames
_HEADLESS = ("is an AST without a head, which gives no scores; expected one that was trained to classify, "
             "such as transformers' ASTForAudioClassification.")


def resembles(shapes: Shapes) -> list[Variant]:
    """Return the published variants that a state dict of these shapes could belong to."""
    form = find_format(shapes)
    if form is None:
        return []
    position, depth = shapes[form.name(POSITION)], _count_blocks(shapes, form)
    return [variant for variant in VARIANTS.values()
            if (position, depth) == ((1, variant.tokens, variant.width), variant.depth)]


def identify(shapes: Shapes) -> str:
    """Return which AST of another size a state dict is, as `Family.identify` defines."""
    form = find_format(shapes)
    if form is None:
        return ""
    width, mlp = _widths(shapes, form)
    depth, stride = _count_blocks(shapes, form), _find_stride(shapes)
    model = "ast" if stride in (None, STRIDES[0]) else f"ast-s{stride}"
    return ask_for_heads("an AST", width, depth, [f"{model}-{width}xHEADSx{depth}x{mlp}"])


def fit(variant: Variant, file: StateFile) -> Variant:
    """Return the variant with the stride of the file, if the variant's name says none."""
    stride = _find_stride(file.shapes)
    if stride is None or variant.stride != STRIDES[0]:
        return variant
    model = variant.model if stride == STRIDES[0] else variant.model.replace("ast", f"ast-s{stride}", 1)
    return replace(find_model(model)[variant.window], delay=variant.delay)


def refuse(file: str, shapes: Shapes) -> str:
    """Return why a file with weights of these shapes is not supported: the model inside has another length
    of audio, or no head."""
    form, headless = find_format(shapes), shapes.get("embeddings.patch_embeddings.projection.weight", ())
    if form is None:
        return _HEADLESS if headless[1:] == (1, PATCH, PATCH) else ""  # an image model has three channels
    rows = shapes[form.name(POSITION)][1:2]
    if rows and _find_stride(shapes) is None:
        kind = "for Speech Commands (128 frames)" if rows[0] == SPEECH_COMMANDS else "for other audio"
        known = " or ".join(str(token_count(stride)) for stride in STRIDES)
        return (f"is an AST {kind}: its position table has {rows[0]} rows, which is not supported; expected "
                f"one for 1024 frames (10.24 s), with {known} rows.")
    if form.name(HEAD) not in shapes and all(
            not key.startswith(("classifier", "mlp_head", "module.mlp_head")) for key in shapes):
        return _HEADLESS
    return ""


def _find_stride(shapes: Shapes) -> int | None:
    """Return the stride of an AST for 1024 frames; None if it is something else."""
    form = find_format(shapes)
    position = shapes[form.name(POSITION)] if form else ()
    return next((stride for stride in STRIDES if position[1:2] == (token_count(stride),)), None)


def shapes_like(shapes: Shapes, variant: Variant, form: Format) -> Shapes:
    """Return the shapes that a state dict of the variant should have; the number of classes comes from the
    state dict."""
    head = shapes.get(form.name(HEAD), ())
    return form.shapes(variant, head[0] if len(head) == 2 and head[0] else len(audioset_labels()))


def advice(shapes: Shapes, variant: Variant, file: StateFile) -> str:
    """Describe which model a state dict that does not match the variant looks like, and what to do."""
    def compare(inner: Shapes) -> Comparison:
        if (form := find_format(inner)) is None:
            return Comparison({}, (), "It is not an AST: `satexport models` lists what can be exported.")
        return Comparison(shapes_like(inner, variant, form), form.unused, _looks_like(inner, variant, form))

    prefixes = [] if find_format(shapes) else find_prefixes(shapes, MARKS)
    return advise(shapes, variant, file, prefixes, compare)


def _looks_like(shapes: Shapes, variant: Variant, form: Format) -> str:
    """Return which AST a state dict looks like: a published one, or one of another size, by its name."""
    size = (*_widths(shapes, form), _count_blocks(shapes, form))
    if size == (variant.width, variant.mlp, variant.depth) and _find_stride(shapes) == variant.stride:
        return looks_like([variant], variant, "")
    return looks_like(resembles(shapes), variant, identify(shapes))


def _widths(shapes: Shapes, form: Format) -> tuple[int, int]:
    """Return the length of a token and the number of hidden units; 0: unknown."""
    mlp = shapes.get(form.name("v.blocks.0.mlp.fc1.weight"), ())
    return (*shapes[form.name(POSITION)], 0, 0, 0)[2], (*mlp, 0)[0]


def _count_blocks(shapes: Shapes, form: Format) -> int:
    return count_blocks(shapes, form.block.partition("{}")[0])
