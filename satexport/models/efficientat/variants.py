"""The models: MobileNets of eight widths, and mn10 with other hops, mel bands, heads and strides.

Source of every number: "Efficient Large-Scale Audio Tagging via Transformer-to-CNN Knowledge Distillation"
(Schmid et al., 2022, arXiv 2211.04772) and the behaviour of its published implementation. The shape is that
of MobileNetV3-Large (Howard et al., 2019, arXiv 1905.02244).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Final, Literal, NamedTuple

from satexport.frontends.preemphasis_mel import PreEmphasisMel
from satexport.frontends.rows import FRONT_ENDS
from satexport.models.timed import Timed

SAMPLE_RATE: Final = 32_000
DELAYS: Final = (1, 2, 5, 10)  # s
BN_EPS: Final = 1e-3
HEAD_BN_EPS: Final = 1e-5      # of the batch norm in the head "fc"
MEAN: Final = -4.5             # of the log-mel; the first convolution takes (x - MEAN) / SCALE
SCALE: Final = 5.0
FIRST_CHANNELS: Final = 16
HIDDEN: Final = 1280           # in the head "mlp"
EXPANSION: Final = 6           # of the last convolution
WIDTHS: Final = {"mn01": 0.1, "mn02": 0.2, "mn04": 0.4, "mn05": 0.5,
                 "mn10": 1.0, "mn20": 2.0, "mn30": 3.0, "mn40": 4.0}
_HOPS: Final = {5: 160, 15: 480, 20: 640, 25: 800}  # in ms, in samples
_BANDS: Final = (40, 64, 256)


class _Row(NamedTuple):
    """A block at width 1."""

    kernel: int
    expanded: int
    outputs: int
    squeezes: bool
    activation: Literal["relu", "hardswish"]
    stride: int


_ROWS: Final = (
    _Row(3, 16, 16, False, "relu", 1),
    _Row(3, 64, 24, False, "relu", 2),
    _Row(3, 72, 24, False, "relu", 1),
    _Row(5, 72, 40, True, "relu", 2),
    _Row(5, 120, 40, True, "relu", 1),
    _Row(5, 120, 40, True, "relu", 1),
    _Row(3, 240, 80, False, "hardswish", 2),
    _Row(3, 200, 80, False, "hardswish", 1),
    _Row(3, 184, 80, False, "hardswish", 1),
    _Row(3, 184, 80, False, "hardswish", 1),
    _Row(3, 480, 112, True, "hardswish", 1),
    _Row(3, 672, 112, True, "hardswish", 1),
    _Row(5, 672, 160, True, "hardswish", 2),
    _Row(5, 960, 160, True, "hardswish", 1),
    _Row(5, 960, 160, True, "hardswish", 1),
)
BLOCKS: Final = range(1, 1 + len(_ROWS))  # numbers of the blocks; before and after them is a convolution
LAST: Final = BLOCKS.stop


@dataclass(frozen=True, kw_only=True)
class Block:
    """The sizes of an inverted residual block."""

    inputs: int      # channels
    expanded: int    # channels of the depthwise convolution; if equal to `inputs`, nothing expands them
    outputs: int     # channels
    kernel: int      # rows and columns of the depthwise convolution
    stride: int      # of it, along both axes
    bottleneck: int  # channels in the middle of squeeze-and-excitation; 0: the block has none
    activation: Literal["relu", "hardswish"]

    @property
    def expands(self) -> bool:
        return self.expanded != self.inputs

    @property
    def is_residual(self) -> bool:
        return self.stride == 1 and self.inputs == self.outputs


def channels(count: float) -> int:
    """Return a number of channels rounded to a multiple of 8, at least 8, that is not more than 10 % below
    it."""
    rounded = max(8, int(count + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * count else rounded


@dataclass(frozen=True, kw_only=True)
class Variant(Timed):
    """A model at a delay. `width` scales the channels of mn10."""

    family: ClassVar[str] = "efficientat"
    sample_rate: ClassVar[int] = SAMPLE_RATE

    width: float
    front_end: str = "preemphasis-mel-32k"
    head: Literal["mlp", "fc"] = "mlp"
    single_strides: tuple[int, ...] = ()  # the blocks that have stride 1 in place of 2

    @property
    def mel(self) -> PreEmphasisMel:
        """The front end with its parameters."""
        row = FRONT_ENDS[self.front_end]
        assert isinstance(row, PreEmphasisMel)
        return row

    @property
    def frames(self) -> int:
        return self.mel.frame_count(self.window_samples)

    @property
    def first_channels(self) -> int:
        return self._scaled(FIRST_CHANNELS)

    @property
    def last_channels(self) -> int:
        """Channels of the last convolution."""
        return EXPANSION * self.blocks[-1].outputs

    @property
    def hidden(self) -> int:
        """Width of the hidden layer in the head "mlp"."""
        return self._scaled(HIDDEN)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Blocks 1 to 15."""
        blocks, inputs = [], self.first_channels
        for number, row in zip(BLOCKS, _ROWS, strict=True):
            expanded = self._scaled(row.expanded)
            blocks.append(Block(
                inputs=inputs, expanded=expanded, outputs=self._scaled(row.outputs), kernel=row.kernel,
                stride=1 if number in self.single_strides else row.stride,
                bottleneck=channels(expanded // 4) if row.squeezes else 0, activation=row.activation))
            inputs = blocks[-1].outputs
        return tuple(blocks)

    def _scaled(self, count: int) -> int:
        return channels(count * self.width)


def _models() -> list[Variant]:
    """Return the models at the first delay."""
    plain = {model: Variant(model=model, delay=DELAYS[0], window=DELAYS[0], width=width)
             for model, width in WIDTHS.items()}
    mn10 = plain["mn10"]
    models = list(plain.values())
    models += [replace(mn10, model=f"mn10-hop-{ms}", front_end=f"{mn10.front_end}-hop-{samples}")
               for ms, samples in _HOPS.items()]
    models += [replace(mn10, model=f"mn10-mels-{bands}", front_end=f"{mn10.front_end}-bands-{bands}")
               for bands in _BANDS]
    for model, strides in (("mn10-fc", ()), ("mn10-fc-s2221", (13,)), ("mn10-fc-s2211", (7, 13))):
        models.append(replace(mn10, model=model, head="fc", single_strides=strides))
    return models


VARIANTS: Final = {(first.model, delay): replace(first, delay=delay, window=delay)
                   for first in _models() for delay in DELAYS}


def find_model(model: str) -> Mapping[int, Variant]:
    """Return the variants of a model by delay; empty if there is no such model."""
    return {variant.delay: variant for variant in VARIANTS.values() if variant.model == model}
