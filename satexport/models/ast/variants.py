"""The models: AST with four strides, each at four chunk lengths. The name of a model of another size contains
the size: `ast-48x3x2x96` is 48 wide with 3 heads, 2 blocks and 96 hidden units in its MLPs.

Source of every number: "AST: Audio Spectrogram Transformer" (Gong et al., 2021, arXiv 2104.01778) and the
behaviour of its published implementation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from satexport.frontends.rows import KALDI_MEL_16K as KALDI_MEL
from satexport.models.patches import EXTRA_TOKENS, PATCH, patch_count
from satexport.models.timed import Timed
from satexport.models.transformer_size import SIZE, size_in

BANDS = KALDI_MEL.bands
FRAMES = 1024         # that a model takes; a shorter spectrogram is padded with zeros
MEAN = -4.2677393     # of log-mels: the patches see (mel - MEAN) / (2 * DEVIATION)
DEVIATION = 4.5689974
STRIDES = (10, 12, 14, 16)  # of patches, in bands and in frames
DELAYS = (1, 2, 5, 10)      # s
_NAME = re.compile(rf"ast(?:-s(?P<stride>12|14|16))?(?:-{SIZE})?")


@dataclass(frozen=True, kw_only=True)
class Variant(Timed):
    """A model at a delay, with a window."""

    family: ClassVar[str] = "ast"
    sample_rate: ClassVar[int] = KALDI_MEL.sample_rate  # Hz
    front_end: ClassVar[str] = KALDI_MEL.name

    stride: int  # of patches
    width: int   # d, length of a token
    heads: int
    depth: int   # transformer blocks
    mlp: int     # hidden units

    @property
    def frames(self) -> int:
        """Frames of the audio that one step takes, without padding."""
        return KALDI_MEL.frame_count(self.window_samples)

    @property
    def used_frames(self) -> int:
        """Frames that patches cover, of 1024."""
        return (patch_count(FRAMES, self.stride) - 1) * self.stride + PATCH

    @property
    def tokens(self) -> int:
        return token_count(self.stride)


def token_count(stride: int) -> int:
    """Return the tokens of one step, which do not depend on the length of the audio."""
    return EXTRA_TOKENS + patch_count(BANDS, stride) * patch_count(FRAMES, stride)


def find_model(model: str) -> Mapping[int, Variant]:
    """Return the variants of a model by chunk length. The model is a published one or has another size, such
    as "ast-48x3x2x96" (width x heads x depth x hidden units of the MLPs, by default four times the width).
    Empty if there is no such model. Raises `UsageError` for an impossible size."""
    name = _NAME.fullmatch(model)
    if not name:
        return {}
    size, stride = size_in(name), int(name["stride"] or STRIDES[0])
    return {delay: Variant(model=model, delay=delay, window=delay, stride=stride, **size._asdict())
            for delay in DELAYS}


VARIANTS: Mapping[tuple[str, int], Variant] = {
    (model, delay): variant
    for model in ("ast", *(f"ast-s{stride}" for stride in STRIDES[1:]))
    for delay, variant in find_model(model).items()}
