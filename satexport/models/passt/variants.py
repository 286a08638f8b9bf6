"""The models: PaSST with four strides, one with seven blocks, and those for longer audio or other hops. The
name of a model of another size contains the size: `passt-s10-48x3x2x192` is 48 wide with 3 heads, 2 blocks
and 192 hidden units in its MLPs.

Source of every number: "Efficient Training of Audio Transformers with Patchout" (Koutini et al., 2021, arXiv
2110.05069) and the behaviour of its published implementation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

from satexport.frontends.preemphasis_mel import PreEmphasisMel
from satexport.frontends.rows import FRONT_ENDS
from satexport.models.patches import EXTRA_TOKENS, patch_count
from satexport.models.timed import Timed
from satexport.models.transformer_size import SIZE, size_in

SAMPLE_RATE: Final = 32_000
BANDS: Final = 128
MEAN: Final = -4.5        # of the log-mel; the patches see (x - MEAN) / SCALE
SCALE: Final = 5.0
BLOCK_EPS: Final = 1e-6   # of the norms in the blocks and of the last norm
HEAD_EPS: Final = 1e-5    # of the norm in the head
STRIDES: Final = (10, 12, 14, 16)  # of patches, in bands and in frames
DELAYS: Final = (1, 2, 5, 10, 20, 30)  # s
LARGE: Final = "passt-l"
LARGE_DEPTH: Final = 7    # its name is that of its files; the other models have 12


class Kind(NamedTuple):
    """What a model was trained for."""

    longest: int       # s of audio
    table_frames: int  # for which the table of positions in time was made
    front_end: str


KINDS: Final = {  # by the ending of the name
    "": Kind(10, 998, "preemphasis-mel-32k"),
    "-20sec": Kind(20, 2000, "preemphasis-mel-32k"),
    "-30sec": Kind(30, 3000, "preemphasis-mel-32k"),
    "-stfthop160": Kind(10, 2000, "preemphasis-mel-32k-hop-160"),
    "-stfthop100": Kind(10, 3200, "preemphasis-mel-32k-hop-100"),
}
_KIND = "|".join(filter(None, KINDS))
_NAME: Final = re.compile(rf"passt-(?:l|(?:s(?P<stride>12|14|16)|s10(?P<kind>{_KIND})?)(?:-{SIZE})?)")


@dataclass(frozen=True, kw_only=True)
class Variant(Timed):
    """A model at a delay, with a window."""

    family: ClassVar[str] = "passt"
    sample_rate: ClassVar[int] = SAMPLE_RATE

    stride: int       # of patches
    table_frames: int  # for which the table of positions in time was made
    longest: int      # s of audio that the table is for
    front_end: str
    width: int        # d, length of a token
    heads: int
    depth: int        # transformer blocks
    mlp: int          # hidden units

    @property
    def mel(self) -> PreEmphasisMel:
        """The front end with its parameters."""
        row = FRONT_ENDS[self.front_end]
        assert isinstance(row, PreEmphasisMel)
        return row

    @property
    def frames(self) -> int:
        """Frames of the audio that one step takes."""
        return self.mel.frame_count(self.window_samples)

    @property
    def rows(self) -> int:
        """Rows of patches, one above the other in frequency."""
        return patch_count(BANDS, self.stride)

    @property
    def columns(self) -> int:
        """Columns of patches, one after the other in time; frames behind the last one are not read."""
        return patch_count(self.frames, self.stride)

    @property
    def table_columns(self) -> int:
        """Columns of the table of positions in time; the tables for 20 s and more, and for other hops, have
        one more than there are ever patches."""
        return self.table_frames // self.stride

    @property
    def tokens(self) -> int:
        """Tokens of one step."""
        return EXTRA_TOKENS + self.rows * self.columns


def find_model(model: str) -> Mapping[int, Variant]:
    """Return the variants of a model by chunk length. The model is a published one or has another size, such
    as "passt-s10-20sec-48x3x2x192" (width x heads x depth x hidden units of the MLPs, by default four times
    the width). Empty if there is no such model. Raises `UsageError` for an impossible size."""
    name = _NAME.fullmatch(model)
    if not name:
        return {}
    kind, size = KINDS[name["kind"] or ""], size_in(name)
    if model == LARGE:
        size = size._replace(depth=LARGE_DEPTH)
    stride = int(name["stride"] or STRIDES[0])
    return {delay: Variant(model=model, delay=delay, window=delay, stride=stride, **kind._asdict(),
                           **size._asdict())
            for delay in DELAYS if delay <= kind.longest}


def models_alike(variant: Variant) -> list[str]:
    """Return the other models of which a state dict has the same shapes: their tables of positions in time
    are as long, but for another length of audio and another hop."""
    name = _NAME.fullmatch(variant.model)
    kind = name["kind"] if name else None
    return [] if kind is None else [
        variant.model.replace(kind, ending, 1) for ending in KINDS
        if ending != kind and KINDS[ending].table_frames == variant.table_frames]


_MODELS: Final = (*(f"passt-s{stride}" for stride in STRIDES), LARGE,
                  *(f"passt-s10{ending}" for ending in KINDS if ending))
VARIANTS: Final[Mapping[tuple[str, int], Variant]] = {
    (model, delay): variant for model in _MODELS for delay, variant in find_model(model).items()}
