"""The models: nine published checkpoints, fifteen variants (a model at a delay). One of another width is
named by it: `sat-t-48x3` is sat-t with tokens of 48 and 3 heads, twelve blocks as ever.

Source of every number: "Streaming Audio Transformers for Online Audio Tagging"
(Dinkel et al., 2023) and the behaviour of its published implementation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from satexport.errors import UsageError

SAMPLE_RATE = 16_000  # Hz
HOP = 160             # samples, 10 ms
PCM_SCALE = 32_768    # int16 to [-1, 1)
MEL_BANDS = 64
PATCH = 16            # frames and mel bands, stride equal to size
ROWS = MEL_BANDS // PATCH  # patch rows on the frequency axis
DEPTH = 12            # transformer blocks
MLP_RATIO = 4
AUDIOSET_CLASSES = 527
BLOCK_EPS = 1e-6      # of the block norms and the last norm
OUTPUT_EPS = 1e-5     # of the output layer's norm


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
    def chunk_samples(self) -> int:
        return self.delay * SAMPLE_RATE

    @property
    def silence_samples(self) -> int:
        """Length of the silence that fills the initial cache."""
        return self.cache_frames * HOP

    @property
    def columns(self) -> int:
        """Patches on the time axis of one chunk (centred framing gives one frame more)."""
        frames = 1 + self.chunk_samples // HOP
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
    def memory_chunks(self) -> int:
        """Scores depend on this many earlier chunks and on nothing before them."""
        return DEPTH * -(-self.cache_tokens // self.new_tokens)


_SIZES: dict[str, tuple[int, int, Literal["mean", "token"]]] = {  # width, heads, pooling
    "t": (192, 3, "mean"),
    "s": (384, 6, "token"),
    "b": (768, 12, "mean"),
}


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
MODELS = sorted({model for model, _ in VARIANTS})


_WIDEST = 1024  # of a model of another width
_RESIZED = re.compile(r"(?P<model>(?:sat|vit)-[tsb])-(?P<width>[1-9][0-9]{0,3})x(?P<heads>[1-9][0-9]{0,3})")


def find_variant(model: str, delay: int) -> Variant:
    """Return the variant of a model, "sat-t" or "sat-t-48x3", at a delay in seconds. Raises `UsageError` that
    names the models or delays that exist, or says which widths can be."""
    resized = _RESIZED.fullmatch(model)
    published = resized["model"] if resized else model
    if published not in MODELS:
        raise UsageError(f"unknown model {model!r}; the models are {', '.join(MODELS)}.")
    if (published, delay) not in VARIANTS:
        delays = ", ".join(str(d) for m, d in sorted(VARIANTS) if m == published)
        raise UsageError(f"{model} has no delay of {delay} s; it has {delays}.")
    variant = VARIANTS[published, delay]
    if not resized:
        return variant
    width, heads = int(resized["width"]), int(resized["heads"])
    if width % heads or width > _WIDEST:
        raise UsageError(f"{model}: expected a width up to {_WIDEST} that its number of heads divides.")
    return replace(variant, model=model, width=width, heads=heads)


def named_variant(name: str) -> Variant:
    """Return the variant by its own name, such as "sat-t-2s". Raises `UsageError` where it is none."""
    model, _, delay = name.rpartition("-")
    if not re.fullmatch(r"[1-9][0-9]?s", delay):
        raise UsageError(f"{name!r} is no variant; expected a model and its delay, such as sat-t-2s.")
    return find_variant(model, int(delay[:-1]))
