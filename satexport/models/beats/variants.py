"""The models: BEATs as published, at four chunk lengths, and BEATs of other sizes. The name of another size
contains everything in which its config differs from the published one: `beats-embed32-48x3x2x96` has patches
of 32 numbers and is 48 wide, with 3 heads, 2 blocks and 96 hidden units in its MLPs.

Source of every number: "BEATs: Audio Pre-Training with Acoustic Tokenizers" (Chen et al., 2022, arXiv
2212.09058) and the behaviour of its published implementation.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from satexport.errors import UsageError
from satexport.frontends.rows import KALDI_MEL_16K_POVEY as KALDI_MEL
from satexport.models.timed import Timed

BANDS: Final = KALDI_MEL.bands
PATCH: Final = 16          # frames and mel bands of a patch; patches do not overlap
ROWS: Final = BANDS // PATCH
MEAN: Final = 15.41663     # of log-mels: the patches see (mel - MEAN) / (2 * DEVIATION)
DEVIATION: Final = 6.55582
TAPS, GROUPS = 128, 16     # of the convolution that codes positions
GATES: Final = 8           # numbers from which a gate is computed
EPS: Final = 1e-5          # of all norms
DELAYS: Final = (1, 2, 5, 10)  # s
MLP_RATIO: Final = 4
LONGEST: Final = 4096      # limits for models of another size
WIDEST, DEEPEST = 1024, 24
_NUMBER = "[1-9][0-9]{0,8}"
_NAME = re.compile(
    rf"beats(?:-embed(?P<embed>{_NUMBER}))?(?:-buckets(?P<buckets>{_NUMBER}))?"
    rf"(?:-distance(?P<distance>{_NUMBER}))?(?P<plain>-plain)?"
    rf"(?:-(?P<width>{_NUMBER})x(?P<heads>{_NUMBER})x(?P<depth>{_NUMBER})(?:x(?P<mlp>{_NUMBER}))?)?")


@dataclass(frozen=True, kw_only=True)
class Size:
    """What the config of a file says about its model."""

    embed: int = 512      # numbers of a patch, before they become a token
    width: int = 768      # d, length of a token
    heads: int = 12
    depth: int = 12       # transformer blocks
    mlp: int = 3072       # hidden units
    buckets: int = 320    # of distances between tokens, half of them for each direction
    distance: int = 800   # from which all distances are in the last bucket
    deep_norm: bool = True

    @property
    def model(self) -> str:
        """The model's name: "beats" for the published size."""
        words = [f"{word}{value}" for word, value, usual in (
            ("embed", self.embed, PUBLISHED.embed), ("buckets", self.buckets, PUBLISHED.buckets),
            ("distance", self.distance, PUBLISHED.distance)) if value != usual]
        words += [] if self.deep_norm else ["plain"]
        sizes = (self.width, self.heads, self.depth, self.mlp)
        if sizes != (PUBLISHED.width, PUBLISHED.heads, PUBLISHED.depth, PUBLISHED.mlp):
            words.append("x".join(map(str, sizes[:3] if self.mlp == MLP_RATIO * self.width else sizes)))
        return "-".join(("beats", *words))

    def fault(self) -> str:
        """Return what is expected instead, if no model can have this size; else ""."""
        ranges = (("width", self.width, WIDEST), ("number of heads", self.heads, self.width),
                  ("depth", self.depth, DEEPEST), ("length of a patch", self.embed, WIDEST),
                  ("number of hidden units", self.mlp, 2 * MLP_RATIO * WIDEST),
                  ("number of buckets", self.buckets, LONGEST), ("largest distance", self.distance, LONGEST))
        for name, value, largest in ranges:
            if not 1 <= value <= largest:
                return f"a {name} from 1 to {largest}, not {value}"
        if self.width % self.heads or self.width % GROUPS:
            return f"a width that is a multiple of {GROUPS} and of the number of heads, not {self.width}"
        if self.buckets % 4 or self.distance <= self.buckets // 4:
            return (f"buckets in a multiple of 4, of which a quarter is less than the distance, not "
                    f"{self.buckets} for {self.distance}")
        return ""


PUBLISHED: Final = Size()


@dataclass(frozen=True, kw_only=True)
class Variant(Timed):
    """A model at a delay, with a window."""

    family: ClassVar[str] = "beats"
    sample_rate: ClassVar[int] = KALDI_MEL.sample_rate  # Hz
    front_end: ClassVar[str] = KALDI_MEL.name

    size: Size

    @property
    def frames(self) -> int:
        """Frames of the audio that one step takes."""
        return KALDI_MEL.frame_count(self.window_samples)

    @property
    def columns(self) -> int:
        """Patches along the frames; the frames behind the last whole patch are not read."""
        return self.frames // PATCH

    @property
    def tokens(self) -> int:
        return self.columns * ROWS

    @property
    def alpha(self) -> float:
        """The factor of the residual in each block."""
        return float((2 * self.size.depth) ** 0.25) if self.size.deep_norm else 1.0


def find_buckets(size: Size, tokens: int) -> NDArray[np.int64]:
    """Return the row of the bias table for each distance from a query to a key, -(tokens - 1) ... tokens - 1,
    [2 * tokens - 1]. Small distances have a bucket each; larger ones share buckets whose width grows with the
    logarithm of the distance."""
    offset = np.arange(1 - tokens, tokens)
    half, distance = size.buckets // 2, np.abs(offset)
    exact = half // 2
    grown = np.log(np.maximum(distance, exact) / exact) / math.log(size.distance / exact)
    far = np.minimum(half - 1, exact + np.floor((half - exact) * grown).astype(np.int64))
    return np.asarray(half * (offset > 0) + np.where(distance < exact, distance, far))


def of_size(size: Size) -> dict[int, Variant]:
    """Return the variants of a size by chunk length."""
    return {delay: Variant(model=size.model, delay=delay, window=delay, size=size) for delay in DELAYS}


VARIANTS: Mapping[tuple[str, int], Variant] = {
    (variant.model, delay): variant for delay, variant in of_size(PUBLISHED).items()}


def find_model(model: str) -> Mapping[int, Variant]:
    """Return the variants of a model by chunk length. The model is the published one or has another size,
    such as "beats-embed32-distance1280-48x3x2x96" (width x heads x depth x hidden units of the MLPs, by
    default four times the width; "-plain": residuals without the factor of DeepNorm). Empty if there is no
    such model. Raises `UsageError` for an impossible size."""
    name = _NAME.fullmatch(model)
    if not name:
        return {}
    numbers = {key: int(value) for key, value in name.groupdict().items() if value and key != "plain"}
    if "width" in numbers:
        numbers.setdefault("mlp", MLP_RATIO * numbers["width"])
    size = Size(**numbers, deep_norm=not name["plain"])
    if fault := size.fault():
        raise UsageError(f"{model}: expected {fault}.")
    return of_size(size)
