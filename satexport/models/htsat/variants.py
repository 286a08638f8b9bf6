"""The models: HTS-AT at four chunk lengths. The name of a model of another size contains the size:
`htsat-8x1-2-2-4x2-2-2-2` is 8 wide in its first stage, and has 1, 2, 2 and 4 heads and 2, 2, 2 and 2 blocks
in its four stages.

Source of every number: "HTS-AT: A Hierarchical Token-Semantic Audio Transformer for Sound Classification and
Detection" (Chen et al., 2022, arXiv 2202.00874) and the behaviour of its published implementation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

from satexport.errors import UsageError
from satexport.frontends.rows import SLANEY_MEL_32K as MEL
from satexport.models.timed import Timed

BANDS = MEL.bands
FRAMES = 1 + MEL.padded // MEL.hop  # of 10 s: 1001
SIDE = 256        # rows and columns of the image
PIECES = 4        # of SIDE frames each, above each other in the image
PATCH = 4         # rows and columns of a patch
WINDOW = 8        # rows and columns of tokens among which attention takes place
MLP_RATIO = 4
EPS = 1e-5        # of every norm
MASKED = -100.0   # logit between the zones of a shifted window
WIDTH, HEADS, DEPTHS = 96, (4, 8, 16, 32), (2, 2, 6, 2)  # of the published model
DELAYS = (1, 2, 5, 10)      # s
LONGEST: Final = 10         # s that the model takes; zeros are appended to less
WIDEST, DEEPEST = 256, 24   # limits for models of another size: of the first stage, of each stage
_NUMBER = "(?:0|[1-9][0-9]{0,4})"
_STAGES = f"{_NUMBER}(?:-{_NUMBER}){{3}}"
_NAME = re.compile(rf"htsat(?:-(?P<width>{_NUMBER})x(?P<heads>{_STAGES})x(?P<depths>{_STAGES}))?")


class Stage(NamedTuple):
    """Blocks at one resolution."""

    number: int
    first: int   # number of its first block among all
    depth: int   # blocks
    width: int   # d, length of a token
    heads: int
    side: int    # rows and columns of tokens

    @property
    def windows(self) -> int:
        return (self.side // WINDOW) ** 2

    def is_shifted(self, block: int) -> bool:
        """Whether the windows of its block with this number are shifted; a single window never is."""
        return block % 2 == 1 and self.side > WINDOW


@dataclass(frozen=True, kw_only=True)
class Variant(Timed):
    """A model at a delay, with a window."""

    family: ClassVar[str] = "htsat"
    sample_rate: ClassVar[int] = MEL.sample_rate  # Hz
    front_end: ClassVar[str] = MEL.name

    width: int                # d of the first stage; it doubles from stage to stage
    heads: tuple[int, ...]    # of each stage
    depths: tuple[int, ...]   # blocks of each stage

    @property
    def frames(self) -> int:
        """Frames that have a sample of the audio that one step takes; the others, of 1001, are silent."""
        return MEL.frame_count(self.window_samples)

    @property
    def tokens(self) -> int:
        """Tokens of the first stage, which do not depend on the length of the audio."""
        return (SIDE // PATCH) ** 2

    @property
    def embedding(self) -> int:
        """Length of a token of the last stage."""
        return self.stages[-1].width

    @property
    def stages(self) -> tuple[Stage, ...]:
        return tuple(Stage(number, sum(self.depths[:number]), depth, self.width << number, heads,
                           SIDE // PATCH >> number)
                     for number, (depth, heads) in enumerate(zip(self.depths, self.heads, strict=True)))

    def blocks(self) -> Iterator[tuple[str, str]]:
        """Yield the name of each block here, "00", and its prefix in state dicts, "layers.0.blocks.0"."""
        for stage in self.stages:
            for block in range(stage.depth):
                yield f"{stage.first + block:02d}", f"layers.{stage.number}.blocks.{block}"


def _model(model: str, width: int, heads: tuple[int, ...], depths: tuple[int, ...]) -> dict[int, Variant]:
    return {delay: Variant(model=model, delay=delay, window=delay, width=width, heads=heads, depths=depths)
            for delay in DELAYS}


VARIANTS: Mapping[tuple[str, int], Variant] = {
    (variant.model, delay): variant for delay, variant in _model("htsat", WIDTH, HEADS, DEPTHS).items()}


def size_name(width: int, heads: tuple[int, ...], depths: tuple[int, ...]) -> str:
    """Return the name of the model of another size."""
    return f"htsat-{width}x{'-'.join(map(str, heads))}x{'-'.join(map(str, depths))}"


def find_model(model: str) -> Mapping[int, Variant]:
    """Return the variants of a model by chunk length. The model is the published one or has another size,
    such as "htsat-8x1-2-2-4x2-2-2-2" (width x heads of each stage x blocks of each stage). Empty if there is
    no such model. Raises `UsageError` for an impossible size."""
    name = _NAME.fullmatch(model)
    if not name:
        return {}
    if not name["width"]:
        return _model(model, WIDTH, HEADS, DEPTHS)
    width = int(name["width"])
    heads, depths = (tuple(map(int, name[part].split("-"))) for part in ("heads", "depths"))
    if not 1 <= width <= WIDEST or any(not 1 <= count <= width << stage or (width << stage) % count
                                       for stage, count in enumerate(heads)):
        raise UsageError(f"{model}: expected a width up to {WIDEST}, and in each stage a number of heads "
                         "that divides its width (which doubles from stage to stage).")
    if not all(1 <= depth <= DEEPEST for depth in depths):
        raise UsageError(f"{model}: expected depths from 1 to {DEEPEST}.")
    return _model(model, width, heads, depths)
