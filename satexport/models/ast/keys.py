"""The names and shapes in published state dicts. A `State` has the names of the original files, without their
prefix `module.`.

Source of names and shapes: the published checkpoints of the AST repository, and what transformers 5.23 reads
and writes (`ASTForAudioClassification`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from satexport.models.ast.variants import Variant
from satexport.models.family import Shapes
from satexport.models.patches import PATCH

POSITION: Final = "v.pos_embed"
HEAD: Final = "mlp_head.1.weight"
PREFIX: Final = "module."  # of all names in the original files


@dataclass(frozen=True, kw_only=True)
class Format:
    """The names of the weights in one kind of file, and the epsilons with which its code runs them."""

    block_eps: float  # of the blocks' norms and the last norm
    head_eps: float   # of the head's norm
    outer: Mapping[str, str]              # part of the model -> its name in the file
    block: str                            # of a block, with {} for its number
    parts: Mapping[str, tuple[str, ...]]  # part of a block -> its names; qkv may be stored as three
    unused: frozenset[str] = frozenset()  # entries that its code never runs

    def names(self, key: str) -> tuple[str, ...]:
        """Return the names of the entries that make up one weight, in the order of its rows."""
        part, dot, kind = key.rpartition(".") if key.endswith((".weight", ".bias")) else (key, "", "")
        if part in self.outer:
            return (f"{self.outer[part]}{dot}{kind}",)
        _, _, number, part = part.split(".", 3)  # "v.blocks.3.mlp.fc1"
        return tuple(f"{self.block.format(number)}.{name}{dot}{kind}" for name in self.parts[part])

    def name(self, key: str) -> str:
        """Return the name of a weight that is one entry."""
        return self.names(key)[0]

    def shapes(self, variant: Variant, classes: int) -> Shapes:
        """Return the shape of each entry of a variant's file, by name."""
        return {name: (shape[0] // len(self.names(key)), *shape[1:])
                for key, shape in expected_shapes(variant, classes).items() for name in self.names(key)}


_OUTER: Final = ("v.cls_token", "v.dist_token", POSITION, "v.patch_embed.proj", "v.norm", "mlp_head.0",
                 "mlp_head.1")
_PARTS: Final = ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


def _original(prefix: str) -> Format:
    return Format(
        block_eps=1e-6, head_eps=1e-5, outer={part: prefix + part for part in _OUTER},
        block=f"{prefix}v.blocks.{{}}", parts={part: (part,) for part in _PARTS},
        unused=frozenset(f"{prefix}v.{head}.{kind}" for head in ("head", "head_dist")  # of ImageNet
                         for kind in ("weight", "bias")))


def _transformers(block: str, *parts: str) -> Format:
    """Return a format of transformers; `parts` are the names of _PARTS in order, those of qkv with spaces."""
    encoder = "audio_spectrogram_transformer"
    outer = (f"{encoder}.embeddings.cls_token", f"{encoder}.embeddings.distillation_token",
             f"{encoder}.embeddings.position_embeddings", f"{encoder}.embeddings.patch_embeddings.projection",
             f"{encoder}.layernorm", "classifier.layernorm", "classifier.dense")
    return Format(
        block_eps=1e-12, head_eps=1e-12, outer=dict(zip(_OUTER, outer, strict=True)),
        block=f"{encoder}.{block}.{{}}",
        parts={part: tuple(names.split()) for part, names in zip(_PARTS, parts, strict=True)})


FORMATS: Final = {
    "original": _original(PREFIX),
    "without prefix": _original(""),  # of the model inside DataParallel
    "transformers": _transformers(  # what `save_pretrained` writes and the files on the Hub have
        "encoder.layer", "layernorm_before", "layernorm_after",
        "attention.attention.query attention.attention.key attention.attention.value",
        "attention.output.dense", "intermediate.dense", "output.dense"),
    "transformers in memory": _transformers(  # `state_dict()` of a model, from transformers 5 on
        "layers", "layernorm_before", "layernorm_after",
        "attention.q_proj attention.k_proj attention.v_proj", "attention.o_proj", "mlp.fc1", "mlp.fc2"),
}
MARKS: Final = frozenset(FORMATS[name].name(POSITION) for name in ("without prefix", "transformers"))


def find_format(shapes: Shapes) -> Format | None:
    """Return the format of a state dict; None if it is not an AST's."""
    alike = [form for form in FORMATS.values() if form.name(POSITION) in shapes]
    first = "v.blocks.0.mlp.fc1.weight"  # tells the two formats of transformers apart
    return next((form for form in alike if form.name(first) in shapes), alike[0] if alike else None)


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
