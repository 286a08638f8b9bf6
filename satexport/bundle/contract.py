"""The contract of a graph: its inputs, its outputs, and the checkpoint and options it was exported from.

The export writes it, and everything that runs a bundle reads it. The metadata of the ONNX file has the same
content, so that the file explains itself. Imports only numpy.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from satexport import facts
from satexport.errors import BundleError, DataError, made_by_newer
from satexport.terminal import shown

SCHEMA = 6
DEFAULT_OPSET = 20
ANY = -1      # number of streams in a shape: the caller chooses it
PREFIX = "satexport."  # of the keys in the ONNX metadata
CACHE_DTYPES = {"fp32": "float32", "fp16": "float16", "int8": "int8"}  # --cache-dtype -> dtype of the tensors
INPUTS = ("audio", "mel")  # of a graph
SAMPLE_RATES = 1000, 384_000  # Hz; lowest and highest
MAX_WINDOW = 3600          # s
RANDOM_WEIGHTS = "RANDOM WEIGHTS: for sizing a device; the scores mean nothing and no mAP is claimed"


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape and dtype of a graph's input or output."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True, kw_only=True)
class GraphOptions:
    """The options of an export that change the inputs and outputs of its graph."""

    cache: str = "kv"      # or "hidden": caches each block's input, as published; half the state
    input: str = "audio"   # or "mel": the features, for a device that computes the front end itself
    streams: int = 1       # per step; ANY: the caller decides
    cache_dtype: str = "fp32"  # of the stored cache, a key of CACHE_DTYPES
    embedding: str = ""    # kind of the embedding, the graph's second output; "": it has none

    @property
    def suffix(self) -> str:
        """The part of a bundle's name that lists these options; empty if all are defaults."""
        words = [value for value, usual in ((self.cache, "kv"), (self.input, "audio")) if value != usual]
        if self.embedding:
            words.append(f"embedding-{self.embedding}")
        if self.cache_dtype != "fp32":
            words.append(f"cache-{self.cache_dtype}")
        if self.streams != 1:
            words.append("dynamic" if self.streams == ANY else f"x{self.streams}")
        return "".join(f"-{word}" for word in words)


USUAL_OPTIONS = GraphOptions()


def embedding_spec(options: GraphOptions, size: int) -> TensorSpec | None:
    """The spec of an embedding with `size` numbers for each stream; None if the options ask for none."""
    return TensorSpec("embedding", (options.streams, size)) if options.embedding else None


@dataclass(frozen=True, kw_only=True)
class CheckpointOrigin:
    """Where the weights of a graph come from."""

    name: str    # readable: the file's name, "hub:OWNER/REPO/FILE@COMMIT", "demo", "random (seed 0)"
    source: str  # "file", "hub", "demo" or "random"
    sha256: str  # of the file; for random weights, of their bytes in the order of the sorted keys


@dataclass(frozen=True, kw_only=True)
class Contract:
    """Everything that a program needs to know about a graph to run it and to trace its origin."""

    family: str                      # of models, such as "sat"
    variant: str                     # such as "sat-t-2s"
    sample_rate: int                 # Hz
    window_samples: int              # samples that one step takes
    hop_samples: int                 # new samples per step; the window advances by this
    memory_steps: int                # number of earlier steps whose audio affects the scores
    front_end: dict[str, Any]        # its name and parameters, see satexport.frontends
    tokens: dict[str, int]           # of one step: "new", and "cached" from earlier steps; {}: none
    classes: int
    options: GraphOptions
    input: TensorSpec                # audio [N, window_samples] in [-1, 1], or mel [N, bands, frames]
    scores: TensorSpec               # [N, classes] in (0, 1), independent of each other
    embedding: TensorSpec | None     # [N, size]; None: the graph has none
    cache_in: tuple[TensorSpec, ...]
    cache_out: tuple[TensorSpec, ...]
    labels_sha256: str
    checkpoint: CheckpointOrigin
    opset: int
    exporter: str
    schema: int = SCHEMA

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What a step computes besides the caches, in the order of `Outputs` and of the graph: the scores,
        and the embedding if there is one."""
        return (self.scores, self.embedding) if self.embedding else (self.scores,)

    @property
    def hop_seconds(self) -> float:
        """Seconds of new audio in each step."""
        return self.hop_samples / self.sample_rate

    @property
    def window_seconds(self) -> float:
        """Seconds of audio that each step takes."""
        return self.window_samples / self.sample_rate

    @property
    def history_samples(self) -> int:
        """Earlier samples that a step takes besides the new ones; 0: none."""
        return self.window_samples - self.hop_samples

    @property
    def streaming(self) -> str:
        """What the steps of a stream score, for people: "a window of the last 10 s every 1 s"."""
        hop = f"{self.hop_seconds:g} s"
        if self.history_samples:
            return f"a window of the last {self.window_seconds:g} s every {hop}"
        return f"each chunk of {hop}{', with a cache of those before' if self.cache_in else ' alone'}"

    @property
    def embedding_text(self) -> str | None:
        """The embedding for people, "mean, 192 numbers"; None if there is none."""
        return f"{self.options.embedding}, {self.embedding.shape[1]} numbers" if self.embedding else None

    @property
    def has_random_weights(self) -> bool:
        return self.checkpoint.source == "random"

    def with_cache_dtype(self, dtype: str) -> Contract:
        """This contract with another dtype of the caches, a key of CACHE_DTYPES."""
        def convert(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
            return tuple(dataclasses.replace(spec, dtype=CACHE_DTYPES[dtype]) for spec in specs)

        return dataclasses.replace(self, cache_in=convert(self.cache_in), cache_out=convert(self.cache_out),
                                   options=dataclasses.replace(self.options, cache_dtype=dtype))

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Contract:
        """Rebuild a contract from JSON. Raises `BundleError` if it has another schema, is damaged, or needs a
        newer version of satexport."""
        check_schema("the contract", fields.get("schema"))
        try:
            values = dict(fields)
            values["options"] = _read_record(GraphOptions, values["options"], "options")
            values["checkpoint"] = _read_record(CheckpointOrigin, values["checkpoint"], "checkpoint")
            for name in ("input", "scores"):
                values[name] = _read_spec(values[name])
            if values["embedding"] is not None:
                values["embedding"] = _read_spec(values["embedding"])
            for name in ("cache_in", "cache_out"):
                values[name] = tuple(_read_spec(s) for s in values[name])
            flat = {key: value for key, value in values.items() if key not in _NESTED}
            facts.check_fields(cls, flat, Path("contract"), _NESTED)
            contract = cls(**values)
            facts.check_values(_conditions(contract), Path("contract"))
        except (KeyError, TypeError, ValueError, DataError) as error:
            reason = str(error).rstrip(".")
            raise BundleError(f"the contract is damaged ({reason}). Export the bundle again.") from None
        _check_supported(contract)
        return contract

    def to_metadata(self) -> dict[str, str]:
        """The contract as ONNX metadata: one key per field, strings unchanged, other values as JSON."""
        return {PREFIX + key: value if isinstance(value, str) else json.dumps(value)
                for key, value in self.to_dict().items()}


_NESTED = ("options", "checkpoint", "input", "scores", "embedding", "cache_in", "cache_out")


def check_schema(what: str, schema: object) -> None:
    """Raise `BundleError` if something has another schema than this version reads."""
    found = f"{what} has schema {shown(schema)}, this version of satexport reads schema {SCHEMA}"
    if isinstance(schema, int) and schema > SCHEMA:
        raise made_by_newer(found)
    if schema != SCHEMA:
        raise BundleError(f"{found}. Export the bundle again with this version.")


def _read_record(cls: type[Any], fields: Any, name: str) -> Any:
    """A nested record of the contract from JSON. Raises `DataError` if it is damaged."""
    return cls(**facts.check_fields(cls, dict(fields), Path(f"contract.{name}")))


def _read_spec(fields: Mapping[str, Any]) -> TensorSpec:
    if fields["dtype"] not in CACHE_DTYPES.values():
        raise ValueError(f"dtype {shown(fields['dtype'])}, expected one of "
                         f"{', '.join(CACHE_DTYPES.values())}")
    spec: TensorSpec = _read_record(TensorSpec, fields, "tensor")
    return spec


def _conditions(contract: Contract) -> Iterator[facts.Condition]:
    """The ranges of the numbers, and which of them must agree."""
    rate, window, hop = contract.sample_rate, contract.window_samples, contract.hop_samples
    lowest, highest = SAMPLE_RATES
    yield "sample_rate", rate, lowest <= rate <= highest, f"{lowest} to {highest} Hz"
    yield "window_samples", window, 1 <= window <= MAX_WINDOW * rate, f"1 sample to {MAX_WINDOW} s"
    yield "hop_samples", hop, 1 <= hop <= window, f"1 to {window}, the window"
    yield "memory_steps", contract.memory_steps, contract.memory_steps >= 0, "0 or more"
    yield "classes", contract.classes, contract.classes >= 1, "1 or more"
    streams, inputs = contract.options.streams, contract.input.shape
    yield "streams", streams, streams == ANY or streams >= 1, f"1 or more, or {ANY} for any number"
    if contract.options.input == "audio":
        yield "input", list(inputs), inputs == (streams, window), f"[{streams}, {window}]"
    else:
        is_valid = len(inputs) == 3 and inputs[0] == streams and min(inputs[1:]) >= 1
        yield "input", list(inputs), is_valid, f"[{streams}, bands, frames]"
    scores, caches = contract.scores.shape, contract.cache_in
    yield "scores", list(scores), scores == (streams, contract.classes), f"[{streams}, {contract.classes}]"
    embedding = contract.embedding
    yield ("embedding", embedding and embedding.name, bool(embedding) == bool(contract.options.embedding),
           f"a tensor if and only if the options name its kind, which is {shown(contract.options.embedding)}")
    if embedding:
        shape = embedding.shape
        is_valid = len(shape) == 2 and shape[0] == streams and shape[1] >= 1
        yield "embedding", list(shape), is_valid, f"[{streams}, 1 or more]"
        yield "embedding", embedding.dtype, embedding.dtype == "float32", "float32"
    for spec in caches:
        is_valid = spec.shape[:1] == (streams,) and min(spec.shape) >= min(streams, 1)
        yield spec.name, list(spec.shape), is_valid, f"[{streams}, ...]"
    types_in, types_out = ([(spec.shape, spec.dtype) for spec in specs]
                           for specs in (caches, contract.cache_out))
    yield "cache_out", len(contract.cache_out), types_in == types_out, "the shapes and dtypes of cache_in"


def _check_supported(contract: Contract) -> None:
    """Raise `BundleError` if this version cannot run the graph on a stream."""
    if contract.options.input not in INPUTS:
        raise made_by_newer(f"the input of the graph is {shown(contract.options.input)}, this version of "
                            f"satexport supports {' and '.join(INPUTS)}")
    if contract.history_samples and contract.cache_in:
        raise made_by_newer(f"the window of the graph is {contract.window_samples} samples and its hop "
                            f"{contract.hop_samples}, this version of satexport does not support overlapping "
                            "windows with a cache")


def check_tensors(specs: Iterable[TensorSpec], found: Mapping[str, Sequence[object]], graph: object) -> None:
    """Raise `BundleError` if a graph lacks one of these tensors or has it in another shape. `found` has the
    shapes of its inputs and outputs by name; the first dimension, the streams, is not compared."""
    for spec in specs:
        shape = found.get(spec.name)
        if shape is None or list(shape[1:]) != list(spec.shape[1:]):
            is_what = list(shape) if shape else "missing"
            raise BundleError(f"{graph}: its tensor {spec.name} is {is_what}, the contract says "
                              f"{list(spec.shape)}. Export the bundle again.")


def state_bytes(contract: Contract) -> int:
    """Bytes that one stream keeps from step to step: one copy of its cache, and its history of audio."""
    return cache_bytes(contract.cache_in) + history_bytes(contract)


def history_bytes(contract: Contract) -> int:
    """Bytes of the earlier samples of one stream, float32, that its next step takes again."""
    return np.dtype(np.float32).itemsize * contract.history_samples


def cache_bytes(specs: Iterable[TensorSpec]) -> int:
    """Size in bytes of one stream's share of these tensors, whose first dimension is the number of
    streams."""
    return sum(np.dtype(spec.dtype).itemsize * prod(spec.shape[1:]) for spec in specs)
