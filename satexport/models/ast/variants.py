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

from satexport.errors import UsageError
from satexport.frontends.rows import KALDI_MEL_16K as KALDI_MEL
from satexport.models.family import Timed

BANDS = KALDI_MEL.bands
FRAMES = 1024         # that a model takes; a shorter spectrogram is padded with zeros
PATCH = 16            # frames and mel bands of a patch
EXTRA_TOKENS = 2      # class token and distillation token, in front of the patches
MEAN = -4.2677393     # of log-mels: the patches see (mel - MEAN) / (2 * DEVIATION)
DEVIATION = 4.5689974
WIDTH, HEADS, DEPTH, MLP_RATIO = 768, 12, 12, 4  # of the published models
STRIDES = (10, 12, 14, 16)  # of patches, in bands and in frames
DELAYS = (1, 2, 5, 10)      # s
WIDEST, DEEPEST = 1024, 24  # limits for models of another size
_NUMBER = "0|[1-9][0-9]{0,8}"
_NAME = re.compile(rf"ast(?:-s(?P<stride>12|14|16))?"
                   rf"(?:-(?P<width>{_NUMBER})x(?P<heads>{_NUMBER})x(?P<depth>{_NUMBER})"
                   rf"(?:x(?P<mlp>{_NUMBER}))?)?")


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


def patch_count(length: int, stride: int) -> int:
    """Return the number of patches along an axis; what remains behind the last one is not read."""
    return (length - PATCH) // stride + 1


def token_count(stride: int) -> int:
    """Return the tokens of one step, which do not depend on the length of the audio."""
    return EXTRA_TOKENS + patch_count(BANDS, stride) * patch_count(FRAMES, stride)


def _model(model: str, stride: int, width: int, heads: int, depth: int, mlp: int) -> dict[int, Variant]:
    return {delay: Variant(model=model, delay=delay, window=delay, stride=stride, width=width, heads=heads,
                           depth=depth, mlp=mlp) for delay in DELAYS}


VARIANTS: Mapping[tuple[str, int], Variant] = {
    (variant.model, delay): variant
    for stride in STRIDES
    for delay, variant in _model("ast" if stride == STRIDES[0] else f"ast-s{stride}", stride, WIDTH, HEADS,
                                 DEPTH, MLP_RATIO * WIDTH).items()}


def find_model(model: str) -> Mapping[int, Variant]:
    """Return the variants of a model by chunk length. The model is a published one or has another size, such
    as "ast-48x3x2x96" (width x heads x depth x hidden units of the MLPs, by default four times the width).
    Empty if there is no such model. Raises `UsageError` for an impossible size."""
    name = _NAME.fullmatch(model)
    if not name:
        return {}
    stride = int(name["stride"] or STRIDES[0])
    if not name["width"]:
        return _model(model, stride, WIDTH, HEADS, DEPTH, MLP_RATIO * WIDTH)
    width, heads, depth = (int(name[part]) for part in ("width", "heads", "depth"))
    mlp = int(name["mlp"] or MLP_RATIO * width)
    if not (1 <= heads <= width <= WIDEST) or width % heads:
        raise UsageError(f"{model}: expected a width up to {WIDEST} that is a multiple of the number of "
                         "heads.")
    if not 1 <= depth <= DEEPEST:
        raise UsageError(f"{model}: expected a depth from 1 to {DEEPEST}.")
    if not 1 <= mlp <= 2 * MLP_RATIO * WIDEST:
        raise UsageError(f"{model}: expected MLPs of 1 to {2 * MLP_RATIO * WIDEST} hidden units.")
    return _model(model, stride, width, heads, depth, mlp)
