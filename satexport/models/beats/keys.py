"""The names and shapes in published state dicts, and which BEATs a state dict is.

Source: the behaviour of the published implementation (microsoft/unilm, beats).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from satexport.models.beats.config import read_config
from satexport.models.beats.variants import (
    GATES,
    GROUPS,
    PATCH,
    PUBLISHED,
    TAPS,
    VARIANTS,
    Size,
    Variant,
    of_size,
)
from satexport.models.family import Shapes, StateFile
from satexport.models.mismatch import find_prefixes
from satexport.terminal import shown

MARK: Final = "patch_embedding.weight"
MARKS: Final = frozenset({MARK})
HEAD: Final = "predictor.weight"
TAP_SCALE: Final = "encoder.pos_conv.0.weight_g"
TAPS_WEIGHT: Final = "encoder.pos_conv.0.weight_v"
PARAMETRIZED: Final = {  # names in files that newer versions of PyTorch saved
    TAP_SCALE: "encoder.pos_conv.0.parametrizations.weight.original0",
    TAPS_WEIGHT: "encoder.pos_conv.0.parametrizations.weight.original1"}
_BIAS_TABLE: Final = "encoder.layers.{}.self_attn.relative_attention_bias.weight"
BIAS_TABLE: Final = _BIAS_TABLE.format(0)
_PRETRAINED: Final = (
    "is a pre-trained BEATs, or its tokenizer, without a predictor, which gives no scores; expected a "
    "fine-tuned one, such as BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt.")


def bias_tables(size: Size) -> list[str]:
    """Return the names of the copies of the one table of relative position bias."""
    return [_BIAS_TABLE.format(layer) for layer in range(size.depth)]


def expected_shapes(size: Size, classes: int) -> Shapes:
    """Return the shape of every entry of a file, by name."""
    d, head = size.width, size.width // size.heads
    block: Shapes = {f"self_attn.{part}_proj": (d, d) for part in "qkv"}
    block |= {"self_attn.out_proj": (d, d), "self_attn.grep_linear": (GATES, head), "fc1": (size.mlp, d),
              "fc2": (d, size.mlp), "self_attn_layer_norm": (d,), "final_layer_norm": (d,)}
    layers: Shapes = {"layer_norm": (size.embed,), "encoder.layer_norm": (d,), "predictor": (classes, d)}
    if size.embed != d:
        layers["post_extract_proj"] = (d, size.embed)
    shapes: Shapes = {MARK: (size.embed, 1, PATCH, PATCH), "encoder.pos_conv.0.bias": (d,),
                      TAP_SCALE: (1, 1, TAPS), TAPS_WEIGHT: (d, d // GROUPS, TAPS)}
    for number in range(size.depth):
        layer = f"encoder.layers.{number}"
        layers |= {f"{layer}.{part}": shape for part, shape in block.items()}
        shapes |= {f"{layer}.self_attn.grep_a": (1, size.heads, 1, 1),
                   _BIAS_TABLE.format(number): (size.buckets, size.heads)}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


def find_names(shapes: Iterable[str]) -> dict[str, str]:
    """Return the name in a file of each weight that has another one there."""
    found = set(shapes)
    return {key: name for key, name in PARAMETRIZED.items() if name in found and key not in found}


def is_beats(shapes: Shapes) -> bool:
    return MARK in shapes and any(key.startswith("encoder.pos_conv.0.") for key in shapes)


def resembles(shapes: Shapes) -> list[Variant]:
    """Return the published variants for every fine-tuned BEATs: its config says the rest."""
    return list(VARIANTS.values()) if is_beats(shapes) else []


def fit(variant: Variant, file: StateFile) -> Variant:
    """Return the variant with the size of the file, if the variant's name says none."""
    config = read_config(file)
    if variant.size != PUBLISHED or isinstance(config, str):
        return variant
    return replace(of_size(config.size)[variant.window], delay=variant.delay)


def refuse(file: str, shapes: Shapes) -> str:
    """Return why a file with weights of these shapes is not supported: it is not fine-tuned."""
    has_head = any(key.startswith("predictor.") for key in shapes)
    return _PRETRAINED if is_beats(shapes) and not has_head else ""


def advice(shapes: Shapes, expected: Shapes) -> str:
    """Describe a state dict that does not have the shapes that its config asks for, and what to do."""
    keep = "and keep cfg and label_dict as they are."
    if prefixes := [] if MARK in shapes else find_prefixes(shapes, MARKS):
        return (f"Its weight names start with {' or '.join(map(shown, prefixes))}: save `model` again "
                f"without that, {keep}")
    extra = [key for key in shapes if key not in expected]
    if extra and all(shapes.get(key) == shape for key, shape in expected.items()):
        return f"It has all weights, and {len(extra)} more entries: save `model` again without them, {keep}"
    return ("These are not the weights that its cfg asks for: the file is incomplete or was changed. Copy or "
            "download it again.")
