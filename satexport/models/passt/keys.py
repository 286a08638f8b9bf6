"""The names and shapes in published state dicts.

Source of names and shapes: the published checkpoints (GitHub releases of kkoutini/PaSST).
"""

from __future__ import annotations

from typing import Final

from satexport.models.family import Shapes
from satexport.models.passt.variants import Variant
from satexport.models.patches import EXTRA_TOKENS, PATCH

TIME: Final = "time_new_pos_embed"      # [1, d, 1, columns]; only these state dicts have it
FREQUENCY: Final = "freq_new_pos_embed"  # [1, d, rows, 1]
HEAD: Final = "head.1.weight"
MARKS: Final = frozenset({TIME})
AVERAGED: Final = "net_swa."  # before all names in a training checkpoint: the average of the last epochs
PREFIXES: Final = ("", AVERAGED, "net.")  # the preferred one first
UNUSED: Final = frozenset({"head_dist.weight", "head_dist.bias"})  # a head that is never run


def find_prefix(shapes: Shapes) -> str | None:
    """Return the prefix of the names in a state dict; None if it is not a PaSST's."""
    return next((prefix for prefix in PREFIXES if prefix + TIME in shapes), None)


def without_prefix(shapes: Shapes, prefix: str) -> Shapes:
    """Return the shapes of the weights under a prefix. Those that are not averaged are left out of a file
    that has both."""
    others = tuple(other for other in PREFIXES if other and other != prefix) if prefix == AVERAGED else ()
    return {key.removeprefix(prefix): shape for key, shape in shapes.items() if not key.startswith(others)}


def expected_shapes(variant: Variant, classes: int) -> Shapes:
    """Return the shape of every weight of a variant, by name."""
    d = variant.width
    shapes: Shapes = {
        "cls_token": (1, 1, d), "dist_token": (1, 1, d), "new_pos_embed": (1, EXTRA_TOKENS, d),
        FREQUENCY: (1, d, variant.rows, 1), TIME: (1, d, 1, variant.table_columns)}
    block: Shapes = {"norm1": (d,), "norm2": (d,), "attn.qkv": (3 * d, d), "attn.proj": (d, d),
                     "mlp.fc1": (variant.mlp, d), "mlp.fc2": (d, variant.mlp)}
    layers: Shapes = {"patch_embed.proj": (d, 1, PATCH, PATCH)}
    for number in range(variant.depth):
        layers |= {f"blocks.{number}.{part}": shape for part, shape in block.items()}
    layers |= {"norm": (d,), "head.0": (d,), "head.1": (classes, d)}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes
