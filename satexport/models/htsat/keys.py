"""The names and shapes in published state dicts. A `State` has the names of the published file without their
prefix `sed_model.`.

Source of names and shapes: the published checkpoints of the HTS-AT repository.
"""

from __future__ import annotations

import re
from typing import Final

from satexport.frontends.rows import SLANEY_MEL_32K as MEL
from satexport.models.family import Shapes
from satexport.models.htsat.variants import BANDS, MLP_RATIO, PATCH, PIECES, WINDOW, Variant

HEAD: Final = "tscam_conv"
HEAD_WEIGHT: Final = f"{HEAD}.weight"
MARKS: Final = frozenset({HEAD_WEIGHT})
PREFIX: Final = "sed_model."  # of all names in the published files
WAVES: Final = ("spectrogram_extractor.stft.conv_real.weight", "spectrogram_extractor.stft.conv_imag.weight")
FILTERS: Final = "logmel_extractor.melW"
FRONT_END: Final[Shapes] = {**dict.fromkeys(WAVES, (MEL.bins, 1, MEL.n_fft)), FILTERS: (MEL.bins, BANDS)}
_UNUSED: Final = re.compile(  # what follows from the size, a counter, and a layer that never runs
    r"bn0\.num_batches_tracked|layers\.\d\.blocks\.\d+\.(attn\.relative_position_index|attn_mask)|"
    r"head\.(weight|bias)")


def find_prefix(shapes: Shapes) -> str | None:
    """Return what is in front of all names of a state dict; None if it is not an HTS-AT's."""
    return next((prefix for prefix in (PREFIX, "") if prefix + HEAD_WEIGHT in shapes), None)


def is_unused(key: str) -> bool:
    """Whether an entry of this name, without the prefix, is not needed: the reader ignores or checks it."""
    return key in FRONT_END or _UNUSED.fullmatch(key) is not None


def expected_shapes(variant: Variant, classes: int) -> Shapes:
    """Return the shape of every weight of a variant, by name."""
    shapes: Shapes = {f"bn0.{kind}": (BANDS,) for kind in ("weight", "bias", "running_mean", "running_var")}
    layers: Shapes = {"patch_embed.proj": (variant.width, 1, PATCH, PATCH),
                      "patch_embed.norm": (variant.width,)}
    tables: Shapes = {}
    for stage in variant.stages:
        source, d = f"layers.{stage.number}", stage.width
        for block in range(stage.depth):
            layers |= {f"{source}.blocks.{block}.{part}": shape for part, shape in {
                "norm1": (d,), "attn.qkv": (3 * d, d), "attn.proj": (d, d), "norm2": (d,),
                "mlp.fc1": (MLP_RATIO * d, d), "mlp.fc2": (d, MLP_RATIO * d)}.items()}
            tables[f"{source}.blocks.{block}.attn.relative_position_bias_table"] = (
                (2 * WINDOW - 1) ** 2, stage.heads)
        if stage != variant.stages[-1]:
            layers[f"{source}.downsample.norm"] = (4 * d,)
            tables[f"{source}.downsample.reduction.weight"] = (2 * d, 4 * d)
    layers |= {"norm": (variant.embedding,), HEAD: (classes, variant.embedding, WINDOW // PIECES, 3)}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes | tables
