"""The protocol of a family of models, and the records that families share with the rest of satexport.

A family is a package with a module that meets `Family`, and a line in `families`. Nothing else names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from satexport.bundle.contract import Contract, GraphOptions, TensorSpec
from satexport.models.claims import PaperFigures
from satexport.step import FloatArray, Step

if TYPE_CHECKING:
    from satexport.graph.roles import Graph

State = dict[str, NDArray[np.float32]]  # weights by name, contiguous
Shapes = dict[str, tuple[int, ...]]     # shapes of the tensors of a state dict, by name


class Variant(Protocol):
    """A model at a delay: the audio that its graph takes and what it remembers. Each family has a frozen
    dataclass for it, which derives from `timed.Timed`.

    A variant without a cache can run over a window: `dataclasses.replace(variant, delay=hop)` scores the last
    `window` seconds every `hop` seconds. Its graph and weights are those of the chunk length `window`, so a
    family derives shapes from `window` and never from `delay`."""

    @property
    def name(self) -> str:
        """The model, its delay and its window if that is longer: "sat-b-2s", "vit-b-1s-window-10s"; unique
        among all families."""

    @property
    def chunk_name(self) -> str:
        """The name of the variant with the same graph whose window is as long as its delay, "vit-b-10s": the
        key of PUBLISHED, DEMOS and PAPER."""

    @property
    def model(self) -> str:
        """The name for `--model`, "sat-b"; unique among all families."""

    @property
    def family(self) -> str:
        """The key of its family in FAMILIES, "sat"."""

    @property
    def delay(self) -> int:
        """Whole seconds of new audio in each step, the number for `--delay`."""

    @property
    def window(self) -> int:
        """Whole seconds of audio that a step takes, the number for `--window`: `delay` if it takes only new
        audio."""

    @property
    def sample_rate(self) -> int:
        """In Hz."""

    @property
    def window_samples(self) -> int:
        """Samples that one step takes: the new ones, and before them the last ones of earlier steps."""

    @property
    def hop_samples(self) -> int:
        """Samples that are new in each step."""

    @property
    def memory_steps(self) -> int:
        """Number of earlier steps whose audio the scores depend on: through the cache, or because the window
        reaches back to it."""

    @property
    def front_end(self) -> str:
        """The name of its row in FRONT_ENDS."""


V = TypeVar("V", bound=Variant)


class Entry(NamedTuple):
    """A tensor in a file, whose values have not been read yet."""

    shape: tuple[int, ...]
    dtype: str  # "float32"
    read: Callable[[], NDArray[Any]]


class StateFile(NamedTuple):
    """The tensors of a state dict by name, what else its file holds, and Python code that reads and writes
    such a file, for advice in errors."""

    entries: dict[str, Entry]
    others: Mapping[Any, object]  # what a file has besides the entry that is the state dict (`model` or
                                  # `state_dict`), such as a config, unchecked; of safetensors: its metadata
    load: str  # Python statements that set `state`
    save: str  # a Python statement with {} in place of the new state dict

    @property
    def shapes(self) -> Shapes:
        return {key: entry.shape for key, entry in self.entries.items()}


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint(Generic[V]):
    """The weights of a variant, complete and finite, and where they come from."""

    variant: V
    state: State = field(repr=False)             # as the family's `read` returns it
    labels: tuple[str, ...] = field(repr=False)  # one per class, in the order of the head
    source: Literal["file", "hub", "demo", "random"]
    name: str    # for people: the file's name, "hub:OWNER/REPO/FILE@COMMIT", "demo", "random (seed 0)"
    sha256: str  # of the file; for random weights: of their bytes in the order of the sorted keys
    dtype: str   # as stored: "float16" if any weight is, else "float32"
    caution: str = ""  # what to make sure of that neither the file nor its repository tells, a sentence

    @property
    def classes(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True)
class Published:
    """A public checkpoint file."""

    url: str | None              # None: only `page` has a link to it
    file: str                    # the file name in the cache folder
    page: str = ""               # a web page that has a link to the file
    hub: str = ""                # OWNER/REPO of a repository on the Hub that has the same weights
    sha256: str | None = None    # None: none was published, so the file's SHA-256 at its first use counts
    licence: str | None = None   # as the file's page states it; None: not looked up


@dataclass(frozen=True, kw_only=True)
class Interface:
    """The inputs and outputs of a graph, in the terms of a `Contract`."""

    input: TensorSpec                  # audio [N, window_samples] in [-1, 1], or mel [N, bands, frames]
    scores: TensorSpec                 # [N, classes] in (0, 1)
    embedding: TensorSpec | None = None  # [N, size], see `embedding_spec`; None: the options ask for none
    cache_in: tuple[TensorSpec, ...]   # [N, ...] each; none for a model without a state
    cache_out: tuple[TensorSpec, ...]  # the same number and shapes as `cache_in`
    tokens: dict[str, int]             # of one step: "new", and "cached" from earlier steps; {}: none


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """A graph that computes the same function as the graph before it."""

    name: str                   # of the rewrite, for reports
    graph: Graph                # with the contract in its metadata, and the roles of its nodes
    cache: Sequence[FloatArray]  # the cache after silence, [1, ...] for each cache input


class Reference(Step, Protocol):
    """A published model in float32, with which every graph is compared. It takes audio [N, window_samples] in
    [-1, 1], even if the graph takes features. Its embedding is of the kind that it was made with."""

    clip_protocol: str  # how `clip_scores` scores a clip, for reports; "" if it does not

    @property
    def model(self) -> Any:
        """The torch module, which computes scores from audio [N, samples] without a cache; None if the
        reference is not in PyTorch."""

    def state_bytes(self) -> int:
        """Return the bytes of one stream's cache in the reference's own layout."""

    def clip_scores(self, audio: FloatArray) -> FloatArray | None:
        """Return the scores [B, classes] of whole clips [B, samples] by the protocol of the model's paper;
        None if that is the streamed protocol."""


class Family(Protocol[V]):
    """A module that knows one family of models. Importing it imports neither torch nor onnx."""

    @property
    def VARIANTS(self) -> Mapping[tuple[str, int], V]:  # noqa: N802
        """The published variants by model and delay. The window of each is as long as its delay."""

    @property
    def MARKS(self) -> frozenset[str]:  # noqa: N802
        """The names of weights by which a state dict of the family is recognised, also after any prefix."""

    @property
    def PUBLISHED(self) -> Mapping[str, Sequence[Published]]:  # noqa: N802
        """Public checkpoints by the `chunk_name` of the variant, the recommended one first."""

    @property
    def DEMOS(self) -> Mapping[str, Path]:  # noqa: N802
        """Checkpoints in this package by the `chunk_name` of the variant."""

    @property
    def SORTS_CLASSES(self) -> bool:  # noqa: N802
        """Whether each file has its own order of AudioSet's classes, so that `read` sorts them."""

    @property
    def PAPER(self) -> Mapping[str, Sequence[PaperFigures]]:  # noqa: N802
        """The figures of papers by the `chunk_name` of the variant, one entry for each paper."""

    def find_model(self, model: str) -> Mapping[int, V]:
        """Return the variants of a model by delay. The model is a published one, or one of another size if
        the family has names for sizes. Empty if the name is not in the family. Raises `UsageError` for an
        impossible size."""

    def options(self, variant: V) -> frozenset[str]:
        """Return the fields of `GraphOptions` that may differ from USUAL_OPTIONS."""

    def embeddings(self, variant: V) -> Mapping[str, str]:
        """Return the kinds of embeddings that a graph of the variant can have, the default first: kind -> a
        phrase that says what it is. Empty if it can have none."""

    def read(self, file: StateFile, variant: V, path: Path) -> State:
        """Return the weights of a file, float32, contiguous and finite. The classes of a head for AudioSet
        are in the order of `audioset_labels`, whatever their order in the file. It is strict: a missing or
        surplus entry, another shape or other numbers in the front end raise `CheckpointError`, which says
        what does not fit, what the file is instead and what to do."""

    def resembles(self, shapes: Shapes) -> Sequence[V]:
        """Return the variants that a state dict of these shapes could belong to, the likeliest first."""

    def identify(self, shapes: Shapes) -> str:
        """Return what a state dict of the family is if `resembles` returns nothing for it, a sentence that
        says what to do: for example its size, and for which part of its model's name the user must know more
        than the shapes show. "" if it is not of the family."""

    def fit(self, variant: V, file: StateFile) -> V:
        """Return the variant with what its model leaves to the file, such as the stride of an AST; the
        variant itself if its model leaves nothing open or the file does not show it."""

    def refuse(self, file: str, shapes: Shapes) -> str:
        """Return why a file of this name with weights of these shapes is related to the family but not
        supported, a sentence that says what is; "" if that is not known."""

    def count_parameters(self, variant: V, classes: int) -> int:
        """Return the number of trained weights, without statistics of normalisation and without the front
        end."""

    def hub_types(self, variant: V) -> frozenset[str]:
        """Return the values of `model_type` and `architectures` in the config.json of a repository on the
        Hugging Face Hub that has weights of the variant; empty if no such repository is known. A repository
        whose config.json has only other values is refused before its weights are downloaded."""

    def caution(self, variant: V, shapes: Shapes, is_sure: bool) -> str:
        """Return a sentence about what the user must check because the shapes in a file do not show it; "" if
        there is nothing. `is_sure`: the publisher of the file, or its repository on the Hub, says that it is
        of the variant's kind of model; it does not state sizes."""

    def random(self, variant: V, classes: int, seed: int) -> State:
        """Return weights made from a seed, with the same bits on every platform. With these weights
        activations stay moderate and scores differ between chunks."""

    def count_classes(self, state: State) -> int:
        """Return the number of classes that the weights score."""

    def interface(self, variant: V, classes: int, options: GraphOptions) -> Interface:
        """Return the inputs and outputs of the graph; their first dimension is `options.streams`."""

    def reference(self, checkpoint: Checkpoint[V], embedding: str = "") -> Reference:
        """Return the published model with these weights. It also computes the embedding of this kind, as its
        paper or its published code defines it; "": none."""

    def rewrites(self, checkpoint: Checkpoint[V], contract: Contract, silence: Any) -> Iterator[Rewrite]:
        """Yield the graph as it was published, then each rewrite of it. The caller proves each graph before
        it asks for the next; the last one ships. `silence` is the reference's `initial_cache(1)`."""

    def describe(self, variant: V) -> Mapping[str, str | int]:
        """Return more facts about the variant, as further columns of `satexport models`."""
