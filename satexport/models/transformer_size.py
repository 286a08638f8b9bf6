"""Sizes of transformers, in their names and in state dicts. In a name, `48x3x2x96` is 48 wide with 3 heads, 2
blocks and 96 hidden units in the MLPs; without the last number, these are four times as wide."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from satexport.errors import UsageError
from satexport.models.family import Shapes

MLP_RATIO = 4
WIDEST, DEEPEST = 1024, 24  # limits for sizes in names
_NUMBER = "0|[1-9][0-9]{0,8}"
SIZE = (rf"(?P<width>{_NUMBER})x(?P<heads>{_NUMBER})x(?P<depth>{_NUMBER})"  # a part of a regular expression
        rf"(?:x(?P<mlp>{_NUMBER}))?")


class Size(NamedTuple):
    """The size of a transformer."""

    width: int  # length of a token
    heads: int
    depth: int  # blocks
    mlp: int    # hidden units


BASE = Size(width=768, heads=12, depth=12, mlp=MLP_RATIO * 768)  # of the published models


def size_in(name: re.Match[str]) -> Size:
    """Return the size in a name that matched a regular expression with SIZE; BASE if it has none. Raises
    `UsageError` for an impossible size."""
    if not name["width"]:
        return BASE
    width, heads, depth = (int(name[part]) for part in ("width", "heads", "depth"))
    mlp = int(name["mlp"] or MLP_RATIO * width)
    if not (1 <= heads <= width <= WIDEST) or width % heads:
        raise UsageError(f"{name[0]}: expected a width up to {WIDEST} that is a multiple of the number of "
                         "heads.")
    if not 1 <= depth <= DEEPEST:
        raise UsageError(f"{name[0]}: expected a depth from 1 to {DEEPEST}.")
    if not 1 <= mlp <= 2 * MLP_RATIO * WIDEST:
        raise UsageError(f"{name[0]}: expected MLPs of 1 to {2 * MLP_RATIO * WIDEST} hidden units.")
    return Size(width, heads, depth, mlp)


def count_blocks(shapes: Shapes, before: str = "blocks.") -> int:
    """Return one more than the highest number of a block; `before` is what is in front of that number."""
    numbers = [key.removeprefix(before).partition(".")[0] for key in shapes if key.startswith(before)]
    return max((1 + int(number) for number in numbers if re.fullmatch("[0-9]{1,4}", number)), default=0)


def ask_for_heads(what: str, width: int, depth: int, models: Sequence[str]) -> str:
    """Return a sentence about a state dict that does not show its number of heads. `what` is its kind, "an
    AST"; `models` are the values that `--model` could have, with HEADS for that number."""
    unsure = " (the shapes do not tell which)" if len(models) > 1 else ""
    return (f"It is {what} of width {width} with {depth} blocks, whose shapes do not show the number of "
            f"heads: pass --model {' or '.join(models)}{unsure} with that number for HEADS.")
