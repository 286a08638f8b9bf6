"""The names and shapes in published state dicts. The state of a checkpoint has the names of the original
files, without their prefix `module.`.

Source of names and shapes: the published checkpoints of the AST repository, and what transformers 5.23 reads
and writes (`ASTForAudioClassification`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from satexport.models.ast.variants import PATCH, Variant
from satexport.models.family import Shapes

POSITION: Final = "v.pos_embed"
HEAD: Final = "mlp_head.1.weight"
HEAD_BIAS: Final = "mlp_head.1.bias"
PREFIX: Final = "module."  # of all names in the original files
UNUSED: Final = frozenset(f"{PREFIX}v.{head}.{kind}" for head in ("head", "head_dist")
                          for kind in ("weight", "bias"))  # ImageNet heads in the original files, never run


@dataclass(frozen=True, kw_only=True)
class Format:
    """The names of the weights in one kind of file, and the epsilons with which its code runs them."""

    block_eps: float  # of the blocks' norms and the last norm
    head_eps: float   # of the head's norm
    outer: Mapping[str, str]               # part of the model -> its name in the file
    layer: str                             # of a block, with {} for its number
    parts: Mapping[str, tuple[str, ...]]   # part of a block -> its names; qkv may be stored as three parts

    def names(self, key: str) -> tuple[str, ...]:
        """Return the names of the entries that make up one weight, in the order of its rows."""
        part, dot, kind = key.rpartition(".") if key.endswith((".weight", ".bias")) else (key, "", "")
        if part in self.outer:
            return (f"{self.outer[part]}{dot}{kind}",)
        _, _, number, part = part.split(".", 3)  # "v.blocks.3.mlp.fc1"
        return tuple(f"{self.layer.format(number)}.{name}.{kind}" for name in self.parts[part])

    def shapes(self, shapes: Shapes) -> Shapes:
        """Return the shapes of the entries of a file whose weights have the given shapes."""
        return {name: (shape[0] // len(self.names(key)), *shape[1:])
                for key, shape in shapes.items() for name in self.names(key)}


_OUTER: Final = ("v.cls_token", "v.dist_token", POSITION, "v.patch_embed.proj", "v.norm", "mlp_head.0",
                 "mlp_head.1")
_PARTS: Final = ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
_ENCODER: Final = "audio_spectrogram_transformer"
_HUB_OUTER: Final = dict(zip(_OUTER, (
    f"{_ENCODER}.embeddings.cls_token", f"{_ENCODER}.embeddings.distillation_token",
    f"{_ENCODER}.embeddings.position_embeddings", f"{_ENCODER}.embeddings.patch_embeddings.projection",
    f"{_ENCODER}.layernorm", "classifier.layernorm", "classifier.dense"), strict=True))

ORIGINAL: Final = Format(
    block_eps=1e-6, head_eps=1e-5, outer={part: PREFIX + part for part in _OUTER},
    layer=f"{PREFIX}v.blocks.{{}}", parts={part: (part,) for part in _PARTS})
HUB: Final = Format(  # what `save_pretrained` of transformers writes, and what the files on the Hub have
    block_eps=1e-12, head_eps=1e-12, outer=_HUB_OUTER, layer=f"{_ENCODER}.encoder.layer.{{}}",
    parts=dict(zip(_PARTS, (
        ("layernorm_before",), ("layernorm_after",),
        ("attention.attention.query", "attention.attention.key", "attention.attention.value"),
        ("attention.output.dense",), ("intermediate.dense",), ("output.dense",)), strict=True)))
TRANSFORMERS: Final = Format(  # `state_dict()` of a model in memory, from transformers 5 on
    block_eps=1e-12, head_eps=1e-12, outer=_HUB_OUTER, layer=f"{_ENCODER}.layers.{{}}",
    parts=dict(zip(_PARTS, (
        ("layernorm_before",), ("layernorm_after",),
        ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
        ("attention.o_proj",), ("mlp.fc1",), ("mlp.fc2",)), strict=True)))


def expected_shapes(variant: Variant, classes: int) -> Shapes:
    """Return the shape of every weight of a variant, by name."""
    d = variant.width
    shapes: Shapes = {"v.cls_token": (1, 1, d), "v.dist_token": (1, 1, d), POSITION: (1, variant.tokens, d)}
    block: Shapes = {"norm1": (d,), "norm2": (d,), "attn.qkv": (3 * d, d), "attn.proj": (d, d),
                     "mlp.fc1": (variant.mlp, d), "mlp.fc2": (d, variant.mlp)}
    layers: Shapes = {"v.patch_embed.proj": (d, 1, PATCH, PATCH)}
    for number in range(variant.depth):
        layers |= {f"v.blocks.{number}.{part}": shape for part, shape in block.items()}
    layers |= {"v.norm": (d,), "mlp_head.0": (d,), "mlp_head.1": (classes, d)}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes
