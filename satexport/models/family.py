"""What a family of models is: its protocol, and the records that it shares with everybody.

A family is a package with a module that meets `Family`, and one line in `families`. Nothing else names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from satexport.bundle.contract import Contract, GraphOptions, TensorSpec
from satexport.step import FloatArray, Step

if TYPE_CHECKING:
    from satexport.graph.roles import Graph

State = dict[str, NDArray[np.float32]]  # weights by name, contiguous
Shapes = dict[str, tuple[int, ...]]     # of the tensors of a state dict


class Variant(Protocol):
    """A model at a delay: what its graph hears and remembers. Each family's own frozen dataclass."""

    @property
    def name(self) -> str:
        """The model and its delay, f"{model}-{delay}s", such as "sat-b-2s"; unique among all families."""

    @property
    def model(self) -> str:
        """As `--model` takes it, "sat-b"; unique among all families."""

    @property
    def family(self) -> str:
        """The key of FAMILIES that it belongs to, "sat"."""

    @property
    def delay(self) -> int:
        """Whole seconds of audio that are new in each step, as `--delay` takes them."""

    @property
    def sample_rate(self) -> int:
        """Hz."""

    @property
    def window_samples(self) -> int:
        """Samples that one step hears: as many as `hop_samples`, for a stream keeps no history of audio."""

    @property
    def hop_samples(self) -> int:
        """Samples that are new in each step."""

    @property
    def memory_steps(self) -> int:
        """Earlier steps that scores depend on; 0: the model has no state."""

    @property
    def front_end(self) -> str:
        """The name of a row of FRONT_ENDS."""


V = TypeVar("V", bound=Variant)


class Entry(NamedTuple):
    """One tensor of a file, its values not yet read."""

    shape: tuple[int, ...]
    dtype: str  # "float32"
    read: Callable[[], NDArray[Any]]


class StateFile(NamedTuple):
    """The tensors of a state dict by name, and the Python that reads and writes such a file."""

    entries: dict[str, Entry]
    load: str  # statements that set `state`
    save: str  # a statement with {} for the new state dict

    @property
    def shapes(self) -> Shapes:
        return {key: entry.shape for key, entry in self.entries.items()}


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint(Generic[V]):
    """Weights of a variant, complete and finite, and where they come from."""

    variant: V
    state: State = field(repr=False)             # as the family's `read` gives it
    labels: tuple[str, ...] = field(repr=False)  # one per class, in the order of the head
    source: Literal["file", "hub", "demo", "random"]
    name: str    # the file's name, "hub:OWNER/REPO/FILE@COMMIT", "demo", "random (seed 0)"
    sha256: str  # of the file; of random weights: of their bytes, keys sorted
    dtype: str   # as stored: "float16" if any weight is, else "float32"
    caution: str = ""  # what to make sure of that neither the file nor its repository tells, a sentence

    @property
    def classes(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True)
class Published:
    """A public checkpoint file."""

    url: str
    file: str                    # its name, under which it is kept
    sha256: str | None = None    # None: none was published; the one of the first use counts
    licence: str | None = None   # as its page states it; None: nobody has read it


@dataclass(frozen=True, kw_only=True)
class PaperFigures:
    """What a paper claims of a variant, by the paper's own definitions; None: it does not say."""

    memory_mb: float | None  # MB of one step
    gflops: float | None     # 1e9 operations of one step
    map: float        # %, AudioSet's evaluation set
    source: str       # the paper and its table
    note: str         # how its definitions differ from those of satexport


@dataclass(frozen=True, kw_only=True)
class Interface:
    """What a graph takes and gives, in the terms of a `Contract`."""

    input: TensorSpec                  # audio [N, window_samples] in [-1, 1], or mel [N, bands, frames] in dB
    scores: TensorSpec                 # [N, classes] in (0, 1)
    cache_in: tuple[TensorSpec, ...]   # [N, ...] each; none for a model without a state
    cache_out: tuple[TensorSpec, ...]  # as many, of the same shapes
    tokens: dict[str, int]             # of one step: "new", and "cached" from before


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """A graph of the same function as the one before it."""

    name: str                   # of what was done, for reports
    graph: Graph                # with the contract in its metadata, and the roles of its nodes
    cache: Sequence[FloatArray]  # after silence, [1, ...] for each cache input


class Reference(Step, Protocol):
    """A published model in float32, which every graph is held against. It takes audio
    [N, window_samples] in [-1, 1], whatever the graph takes."""

    clip_protocol: str  # how `clip_scores` scores a clip, for reports; "" if it does not

    def state_bytes(self) -> int:
        """Bytes of one stream's cache as the reference keeps it."""

    def clip_scores(self, audio: FloatArray) -> FloatArray | None:
        """Scores [classes] of a whole clip [samples] by the protocol of the model's paper; None if that is
        the streamed one."""


class Family(Protocol[V]):
    """A module that knows one family of models. Importing it imports neither torch nor onnx."""

    @property
    def VARIANTS(self) -> Mapping[tuple[str, int], V]:  # noqa: N802
        """The published variants by model and delay."""

    @property
    def MARK(self) -> str:  # noqa: N802
        """A weight by whose name a state dict of the family is known, behind any prefix."""

    @property
    def PUBLISHED(self) -> Mapping[str, Published]:  # noqa: N802
        """Public checkpoints by the name of the variant."""

    @property
    def DEMOS(self) -> Mapping[str, Path]:  # noqa: N802
        """Checkpoints in this package by the name of the variant."""

    @property
    def PAPER(self) -> Mapping[str, PaperFigures]:  # noqa: N802
        """What was claimed, by the name of the variant."""

    def find_model(self, model: str) -> Mapping[int, V]:
        """Return the variants of a model by delay: of a published one, or of one of another size if the
        family has names for these; empty if the name is none of the family's. Raises `UsageError` for a size
        that cannot be."""

    def options(self, variant: V) -> frozenset[str]:
        """Return the fields of `GraphOptions` that may have another value than the usual one."""

    def read(self, file: StateFile, variant: V, path: Path) -> State:
        """Return the weights of a file, float32, contiguous and finite. Strict: raises `CheckpointError`,
        which says what fits not, what the file is instead and what to do, for a missing or surplus entry,
        another shape or a front end of other numbers."""

    def resembles(self, shapes: Shapes) -> Sequence[V]:
        """Return the variants that a state dict of these shapes could be of, the likeliest first."""

    def hub_types(self, variant: V) -> frozenset[str]:
        """Return the values of `model_type` and `architectures` in the config.json of a repository on the
        Hugging Face Hub that has weights of the variant; empty if no such repository is known. A repository
        whose config.json has only other values is refused before its weights are fetched."""

    def caution(self, variant: V, shapes: Shapes) -> str:
        """Return what to make sure of that the shapes of a file do not tell, a sentence; "" if there is
        nothing."""

    def random(self, variant: V, classes: int, seed: int) -> State:
        """Return weights made from a seed, the same bits on every platform, for which activations stay of
        moderate size and scores differ between chunks."""

    def count_classes(self, state: State) -> int:
        """Return the number of classes that the weights score."""

    def interface(self, variant: V, classes: int, options: GraphOptions) -> Interface:
        """Return what the graph takes and gives; its first dimension is `options.streams`."""

    def reference(self, checkpoint: Checkpoint[V]) -> Reference:
        """Return the published model with these weights."""

    def rewrites(self, checkpoint: Checkpoint[V], contract: Contract, silence: Any) -> Iterator[Rewrite]:
        """Write the graph as it was published, then each rewrite of it; the caller proves each before it asks
        for the next, and the last ships. `silence` is the reference's `initial_cache(1)`."""

    def describe(self, variant: V) -> Mapping[str, str | int]:
        """Return what sets the variant apart, as further columns of `satexport models`."""
