"""What a family of models is, and the records that it shares with everybody."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from satexport.models.sat.keys import State
from satexport.models.sat.variants import Variant


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights of a variant, complete and finite, and where they come from.

    `state` has the published keys in the order of `expected_shapes`, float32, contiguous;
    the counter `num_batches_tracked` is dropped (`load_state_dict` is strict without it, too).
    """

    variant: Variant
    state: State = field(repr=False)
    labels: tuple[str, ...] = field(repr=False)  # one per class, in the order of the head
    source: Literal["file", "demo", "random"]
    name: str    # what a person reads: the file's name, "demo", "random (seed 0)"
    sha256: str  # of the file; of random weights: of their bytes, keys sorted
    dtype: str   # as stored: "float16" where any weight is, else "float32"

    @property
    def classes(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class PaperFigures:
    """One row of Table 2."""

    memory_mb: float  # "PeakMem", MB
    gflops: float     # 1e9 operations per step
    map: float        # %
