"""The models: nine published checkpoints, fifteen variants (a model at a delay). One of another width is
named by it: `sat-t-48x3` is sat-t with tokens of 48 and 3 heads, twelve blocks as ever.

Source of every number: "Streaming Audio Transformers for Online Audio Tagging"
(Dinkel et al., 2023) and the behaviour of its published implementation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from satexport.frontends.log_mel import HOP, MEL_BANDS, SAMPLE_RATE

PATCH = 16            # frames and mel bands, stride equal to size
ROWS = MEL_BANDS // PATCH  # patch rows on the frequency axis
DEPTH = 12            # transformer blocks
MLP_RATIO = 4
AUDIOSET_CLASSES = 527
BLOCK_EPS = 1e-6      # of the block norms and the last norm
OUTPUT_EPS = 1e-5     # of the output layer's norm
_SIZES: dict[str, tuple[int, int, Literal["mean", "token"]]] = {  # width, heads, pooling
    "t": (192, 3, "mean"),
    "s": (384, 6, "token"),
    "b": (768, 12, "mean"),
}


@dataclass(frozen=True)
class Variant:
    """A model at a delay.

    `chunk_frames` is the length of the pieces that a spectrogram is split into,
    `cache_frames` what the cache spans (0: the model has no cache), and `time_columns`
    the width of the checkpoint's `time_pos_embed`.
    """

    model: str                        # "sat-b"
    delay: int                        # s of audio per chunk
    width: int                        # d, length of a token
    heads: int
    pooling: Literal["mean", "token"]
    chunk_frames: int
    cache_frames: int
    time_columns: int

    @property
    def name(self) -> str:
        return f"{self.model}-{self.delay}s"

    @property
    def has_cache(self) -> bool:
        return self.cache_frames > 0

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def hop_samples(self) -> int:
        return self.delay * SAMPLE_RATE

    @property
    def silence_samples(self) -> int:
        """Length of the silence that fills the initial cache."""
        return self.cache_frames * HOP

    @property
    def columns(self) -> int:
        """Patches on the time axis of one chunk (centred framing gives one frame more)."""
        frames = 1 + self.hop_samples // HOP
        return min(frames, self.chunk_frames) // PATCH

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
        """True where old tokens survive a step (SAT-S at 1 s): the published model adds the
        position code to them again at every step, so layer 0 cannot keep keys and values."""
        return self.cache_tokens > self.new_tokens

    @property
    def memory_steps(self) -> int:
        """Scores depend on this many earlier chunks and on nothing before them."""
        return DEPTH * -(-self.cache_tokens // self.new_tokens)


def _table() -> dict[tuple[str, int], Variant]:
    table = {}
    for size, (width, heads, pooling) in _SIZES.items():
        for delay in (2, 1):
            # published so: SAT-S at 1 s keeps the 2 s sizes
            frames = 96 if delay == 1 and size != "s" else 192
            columns = 2 * frames // PATCH
            table[f"sat-{size}", delay] = Variant(
                f"sat-{size}", delay, width, heads, pooling, frames, frames, columns)
        for delay in (1, 2, 10):
            table[f"vit-{size}", delay] = Variant(
                f"vit-{size}", delay, width, heads, pooling, 1012, 0, 63)
    return table


VARIANTS = _table()
