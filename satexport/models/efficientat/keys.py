"""The names and shapes in published state dicts, and advice on state dicts that do not match them.

Source of names and shapes: the published checkpoints (GitHub release v0.0.1 of fschmid56/EfficientAT).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from satexport.audio.labels import audioset_labels
from satexport.models.efficientat.variants import BLOCKS, DELAYS, LAST, VARIANTS, WIDTHS, Variant
from satexport.models.family import Shapes, StateFile
from satexport.models.mismatch import Comparison, advise, find_prefixes, looks_like

FIRST_KEY: Final = "features.0.0.weight"
LAST_KEY: Final = f"features.{LAST}.0.weight"  # its shape tells the width
MARKS: Final = frozenset({LAST_KEY})
COUNTER: Final = "num_batches_tracked"  # of each batch norm; only training needs it, may be missing
NORM: Final = ("weight", "bias", "running_mean", "running_var")  # of a batch norm
_DYMN: Final = re.compile(r"dymn", re.IGNORECASE)
_UNTRAINED: Final = re.compile(r"mn\d+_im(?=[_.]|$)")  # at its beginning: not mn40_as_no_im_pre

_EXAMPLE: Final = "a MobileNet with _as in its name, such as mn10_as_mAP_471.pt"


class Layer(NamedTuple):
    """A layer with a weight."""

    key: str                # prefix of its names in a state dict
    shape: tuple[int, ...]  # of its weight


def convolutions(variant: Variant) -> dict[str, Layer]:
    """Return the convolutions of the features by their names in a graph, such as "05.expand". In a state
    dict, KEY.0 is the convolution and KEY.1 its batch norm."""
    layers = {"00.conv": Layer("features.0", (variant.first_channels, 1, 3, 3))}
    for number, block in zip(BLOCKS, variant.blocks, strict=True):
        inner, kernel = block.expanded, block.kernel
        parts: Shapes = {"expand": (inner, block.inputs, 1, 1)} if block.expands else {}
        parts["depthwise"] = (inner, 1, kernel, kernel)
        if block.bottleneck:
            parts["squeeze"] = ()  # it has a place, but is no convolution
        parts["project"] = (block.outputs, inner, 1, 1)
        layers |= {f"{number:02d}.{part}": Layer(f"features.{number}.block.{place}", shape)
                   for place, (part, shape) in enumerate(parts.items()) if shape}
    last = (variant.last_channels, variant.blocks[-1].outputs, 1, 1)
    return layers | {f"{LAST}.conv": Layer(f"features.{LAST}", last)}


def linear_layers(variant: Variant, classes: int) -> dict[str, Layer]:
    """Return the layers with a weight [out, in] and a bias by their names in a graph: those of
    squeeze-and-excitation, such as "05.squeeze" and "05.excite", and those of the head "mlp"."""
    layers = {}
    for number, block in zip(BLOCKS, variant.blocks, strict=True):
        if block.bottleneck:
            key = f"features.{number}.block.{1 + block.expands}.conc_se_layers.0"
            layers[f"{number:02d}.squeeze"] = Layer(f"{key}.fc1", (block.bottleneck, block.expanded))
            layers[f"{number:02d}.excite"] = Layer(f"{key}.fc2", (block.expanded, block.bottleneck))
    if variant.head == "mlp":
        layers["head.hidden"] = Layer("classifier.2", (variant.hidden, variant.last_channels))
        layers["head"] = Layer("classifier.5", (classes, variant.hidden))
    return layers


def head_weight(variant: Variant) -> str:
    """Return the name of the weight that has a row for each class."""
    return "classifier.5.weight" if variant.head == "mlp" else "classifier.0.weight"


def expected_shapes(variant: Variant, classes: int) -> Shapes:
    """Return the shape of every weight in a published state dict, by name."""
    shapes: Shapes = {}
    for layer in convolutions(variant).values():
        shapes[f"{layer.key}.0.weight"] = layer.shape
        shapes |= {f"{layer.key}.1.{part}": layer.shape[:1] for part in NORM}
    for layer in linear_layers(variant, classes).values():
        shapes |= {f"{layer.key}.weight": layer.shape, f"{layer.key}.bias": layer.shape[:1]}
    if variant.head == "fc":
        shapes["classifier.0.weight"] = (classes, variant.last_channels, 1, 1)
        shapes |= {f"classifier.1.{part}": (classes,) for part in NORM}
    return shapes


def shapes_like(shapes: Shapes, variant: Variant) -> Shapes:
    """Return the shapes that a state dict of the variant should have; the number of classes comes from the
    state dict."""
    head = shapes.get(head_weight(variant), ())
    return expected_shapes(variant, head[0] if len(head) >= 2 and head[0] > 0 else len(audioset_labels()))


def counters(expected: Shapes) -> set[str]:
    """Return the names of the counters that a state dict of these shapes may have."""
    return {f"{key.removesuffix('running_var')}{COUNTER}" for key in expected if key.endswith("running_var")}


def advice(shapes: Shapes, variant: Variant, file: StateFile) -> str:
    """Describe which model a state dict that does not match the variant looks like, and what to do."""
    def compare(inner: Shapes) -> Comparison:
        expected = shapes_like(inner, variant)
        return Comparison(expected, counters(expected), looks_like(
            resembles(inner), variant, "It is not a MobileNet of EfficientAT: `satexport models` lists what "
            "can be exported."))

    prefixes = [] if LAST_KEY in shapes else find_prefixes(shapes, MARKS)
    return advise(shapes, variant, file, prefixes, compare)


def resembles(shapes: Shapes) -> list[Variant]:
    """Return the variants that a state dict of these shapes could belong to: they have the same width and
    the same kind of head, but may differ in front end and strides."""
    return [variant for variant in VARIANTS.values() if _resembles(shapes, variant)]


def _resembles(shapes: Shapes, variant: Variant) -> bool:
    layers = convolutions(variant)
    head = shapes.get(head_weight(variant), ())
    return (shapes.get(FIRST_KEY) == layers["00.conv"].shape
            and shapes.get(LAST_KEY) == layers[f"{LAST}.conv"].shape
            and len(head) == (2 if variant.head == "mlp" else 4))


def refuse(file: str, shapes: Shapes) -> str:
    """Return why a file of EfficientAT is not supported, a sentence; "" if that is not known."""
    if _DYMN.match(file):
        return f"is a DyMN, a dynamic MobileNet, which is not supported; expected {_EXAMPLE}."
    if _UNTRAINED.match(file):
        return f"was trained on ImageNet only, its head for AudioSet is untrained; expected {_EXAMPLE}."
    first, last = shapes.get(FIRST_KEY, ()), shapes.get(LAST_KEY, ())
    widths = {VARIANTS[model, DELAYS[0]].last_channels: model for model in WIDTHS}
    if first[1:] == (1, 3, 3) and len(last) == 4 and last[2:] == (1, 1) and last[0] not in widths:
        known = ", ".join(f"{size} ({model})" for size, model in widths.items())
        return (f"has a last convolution with {last[0]} channels, as no MobileNet of EfficientAT; "
                f"expected {known}.")
    return ""
