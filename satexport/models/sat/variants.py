"""The models: thirteen published checkpoints and 27 variants, each a model at a delay. The name of a model of
another size contains the size: `sat-t-48x3` is a sat-t of width 48 with 3 heads, `sat-t-48x3x2` has 2 blocks.

Source of every number: "Streaming Audio Transformers for Online Audio Tagging" (Dinkel et al., 2023), for CED
"CED: Consistent ensemble distillation for audio tagging" (Dinkel et al., 2023, arXiv 2308.11957), and the
behaviour of their published implementations. CED has the architecture of a ViT, but another clip protocol.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from satexport.errors import UsageError
from satexport.frontends.rows import LOG_MEL_16K
from satexport.models.timed import Timed

LOG_MEL = LOG_MEL_16K
PATCH = 16            # frames and mel bands, stride equal to size
ROWS = LOG_MEL.bands // PATCH  # patch rows on the frequency axis
MLP_RATIO = 4
BN_EPS = 1e-5         # of the batch norm over mel bands
BLOCK_EPS = 1e-6      # of the block norms and the last norm
OUTPUT_EPS = 1e-5     # of the output layer's norm
DEPTH = 12            # transformer blocks of the published models
WIDEST, DEEPEST = 1024, 24  # limits for models of another size
_NUMBER = "0|[1-9][0-9]{0,8}"
_RESIZED = re.compile(rf"(?P<model>(?:sat|vit)-[tsb]|ced-[a-z]+)-(?P<width>{_NUMBER})x(?P<heads>{_NUMBER})"
                      rf"(?:x(?P<depth>{_NUMBER}))?")
_SIZES: dict[str, tuple[int, int, Literal["mean", "token"]]] = {  # width, heads, pooling
    "t": (192, 3, "mean"),
    "s": (384, 6, "token"),
    "b": (768, 12, "mean"),
}
_CED_SIZES = {"tiny": (192, 3), "mini": (256, 4), "small": (384, 6), "base": (768, 12)}  # width, heads


@dataclass(frozen=True, kw_only=True)
class Variant(Timed):
    """A model at a delay. A SAT has a window as long as its delay.

    `chunk_frames` is the length of the pieces that a spectrogram is split into, `cache_frames` the number of
    frames that the cache covers (0: the model has no cache), and `time_columns` the width of the checkpoint's
    `time_pos_embed`. `is_ced` selects the clip protocol and the names that a state dict may have.
    """

    family: ClassVar[str] = "sat"
    sample_rate: ClassVar[int] = LOG_MEL.sample_rate  # Hz
    front_end: ClassVar[str] = LOG_MEL.name

    width: int                        # d, length of a token
    heads: int
    depth: int                        # transformer blocks
    pooling: Literal["mean", "token"]
    chunk_frames: int
    cache_frames: int
    time_columns: int
    is_ced: bool = False

    @property
    def has_cache(self) -> bool:
        return self.cache_frames > 0

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def silence_samples(self) -> int:
        """Length of the silence that fills the initial cache."""
        return self.cache_frames * LOG_MEL.hop

    @property
    def columns(self) -> int:
        """Patches on the time axis of one chunk; centred framing gives the chunk one more frame."""
        return min(LOG_MEL.frame_count(self.window_samples), self.chunk_frames) // PATCH

    @property
    def used_frames(self) -> int:
        """Frames of one chunk that patches cover; the published model drops the rest."""
        return self.columns * PATCH

    @property
    def cls_tokens(self) -> int:
        return 1 if self.pooling == "token" else 0

    @property
    def new_tokens(self) -> int:
        """Tokens of one chunk, class token included."""
        return self.cls_tokens + ROWS * self.columns

    @property
    def cache_columns(self) -> int:
        return self.cache_frames // PATCH

    @property
    def cache_tokens(self) -> int:
        return ROWS * self.cache_columns

    @property
    def keeps_hidden_layer_0(self) -> bool:
        """Whether the cache of layer 0 must keep hidden tokens. It must if a token stays cached for several
        steps (SAT-S at 1 s): the published model adds the position code to cached tokens in every step, so
        their keys and values change."""
        return self.cache_tokens > self.new_tokens

    @property
    def memory_steps(self) -> int:
        """Number of earlier chunks that the scores depend on."""
        if not self.has_cache:
            return super().memory_steps
        return self.depth * -(-self.cache_tokens // self.new_tokens)


def _table() -> dict[tuple[str, int], Variant]:
    table = {}
    for size, (width, heads, pooling) in _SIZES.items():
        for delay in (1, 2):
            # as published: SAT-S at 1 s has the frame counts of 2 s
            frames = 96 if delay == 1 and size != "s" else 192
            table[f"sat-{size}", delay] = Variant(
                model=f"sat-{size}", delay=delay, window=delay, width=width, heads=heads, depth=DEPTH,
                pooling=pooling, chunk_frames=frames, cache_frames=frames, time_columns=2 * frames // PATCH)
        for delay in (1, 2, 10):
            table[f"vit-{size}", delay] = Variant(
                model=f"vit-{size}", delay=delay, window=delay, width=width, heads=heads, depth=DEPTH,
                pooling=pooling, chunk_frames=1012, cache_frames=0, time_columns=63)
    for size, (width, heads) in _CED_SIZES.items():
        for delay in (1, 2, 10):
            table[f"ced-{size}", delay] = Variant(
                model=f"ced-{size}", delay=delay, window=delay, width=width, heads=heads, depth=DEPTH,
                pooling="mean", chunk_frames=1012, cache_frames=0, time_columns=63, is_ced=True)
    return table


VARIANTS = _table()


def find_model(model: str) -> Mapping[int, Variant]:
    """Return the variants of a model by delay. The model is a published one or has another size, such as
    "sat-t-48x3" (width x heads, with the published depth) or "sat-t-48x3x2" (width x heads x depth). Empty if
    there is no such model. Raises `UsageError` for an impossible size."""
    resized = _RESIZED.fullmatch(model)
    published = {v.delay: v for v in VARIANTS.values() if v.model == (resized["model"] if resized else model)}
    if not resized:
        return published
    width, heads, depth = int(resized["width"]), int(resized["heads"]), int(resized["depth"] or DEPTH)
    if not (1 <= heads <= width <= WIDEST) or width % heads:
        raise UsageError(f"{model}: expected a width up to {WIDEST} that is a multiple of the number of "
                         "heads.")
    if not 1 <= depth <= DEEPEST:
        raise UsageError(f"{model}: expected a depth from 1 to {DEEPEST}.")
    return {delay: replace(variant, model=model, width=width, heads=heads, depth=depth)
            for delay, variant in published.items()}
