"""The contract of a graph: what goes in, what comes out, and what it was made from.

Written once by the export and read by everything that runs a bundle; the same text is in the
ONNX file's metadata, so that the file explains itself. Imports numpy alone.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from satexport import facts
from satexport.errors import BundleError, DataError, made_by_newer
from satexport.terminal import shown

SCHEMA = 5
DEFAULT_OPSET = 20
ANY = -1      # in a shape: the number of streams, which the caller chooses
PREFIX = "satexport."  # of the keys in the ONNX metadata
CACHE_DTYPES = {"fp32": "float32", "fp16": "float16", "int8": "int8"}  # of a form -> of its tensors
INPUTS = ("audio", "mel")  # of a graph
RATES = 1000, 384_000      # Hz, of any sound that is recorded
LONGEST = 3600             # s of a step
RANDOM_WEIGHTS = "RANDOM WEIGHTS: for sizing a device; the scores mean nothing and no mAP is claimed"


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape and dtype of a graph's input or output."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True, kw_only=True)
class GraphOptions:
    """The choices of an export that change what goes into its graph and comes out."""

    cache: str = "kv"      # or "hidden": each block's input, the published form, half the state
    input: str = "audio"   # or "mel": decibels, for a device with a front end of its own
    streams: int = 1       # that one step serves; ANY: as many as are fed
    cache_dtype: str = "fp32"  # in which the cache is stored, a key of CACHE_DTYPES

    @property
    def suffix(self) -> str:
        """What the name of a bundle says about it: nothing where all is as usual."""
        words = [value for value, usual in ((self.cache, "kv"), (self.input, "audio")) if value != usual]
        if self.cache_dtype != "fp32":
            words.append(f"cache-{self.cache_dtype}")
        if self.streams != 1:
            words.append("dynamic" if self.streams == ANY else f"x{self.streams}")
        return "".join(f"-{word}" for word in words)


USUAL_OPTIONS = GraphOptions()


@dataclass(frozen=True, kw_only=True)
class CheckpointOrigin:
    """Where the weights of a graph come from."""

    name: str    # the file's name, "hub:OWNER/REPO/FILE@COMMIT", "demo", "random (seed 0)"
    source: str  # "file", "hub", "demo" or "random"
    sha256: str  # of the file; of random weights: of their bytes, keys sorted


@dataclass(frozen=True, kw_only=True)
class Contract:
    """Everything that a program needs to feed the graph and to know where it came from."""

    family: str                      # of models, "sat"
    variant: str                     # "sat-t-2s"
    sample_rate: int                 # Hz
    window_samples: int              # that one step hears
    hop_samples: int                 # that are new in each step: the window moves on by so many
    memory_steps: int                # earlier steps that the scores depend on; 0: none
    front_end: dict[str, Any]        # its name and parameters, see satexport.frontends
    tokens: dict[str, int]           # of one step: "new", and "cached" from before
    classes: int
    options: GraphOptions
    input: TensorSpec                # audio [N, window_samples] in [-1, 1], or mel [N, bands, frames] in dB
    scores: TensorSpec               # [N, classes] in (0, 1), each class by itself
    cache_in: tuple[TensorSpec, ...]
    cache_out: tuple[TensorSpec, ...]
    labels_sha256: str
    checkpoint: CheckpointOrigin
    opset: int
    exporter: str
    schema: int = SCHEMA

    @property
    def hop_seconds(self) -> float:
        """Seconds of audio that are new in each step."""
        return self.hop_samples / self.sample_rate

    @property
    def has_random_weights(self) -> bool:
        return self.checkpoint.source == "random"

    def with_cache_dtype(self, dtype: str) -> Contract:
        """The same with caches of another dtype, a key of CACHE_DTYPES."""
        def stored(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
            return tuple(dataclasses.replace(spec, dtype=CACHE_DTYPES[dtype]) for spec in specs)

        return dataclasses.replace(self, cache_in=stored(self.cache_in), cache_out=stored(self.cache_out),
                                   options=dataclasses.replace(self.options, cache_dtype=dtype))

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Contract:
        """Rebuild it from JSON; raises `BundleError` where it is of another schema or damaged, or asks for
        what only a newer version can do."""
        check_schema("the contract", fields.get("schema"))
        try:
            values = dict(fields)
            values["options"] = _read(GraphOptions, values["options"], "options")
            values["checkpoint"] = _read(CheckpointOrigin, values["checkpoint"], "checkpoint")
            for name in ("input", "scores"):
                values[name] = _spec(values[name])
            for name in ("cache_in", "cache_out"):
                values[name] = tuple(_spec(s) for s in values[name])
            plain = {key: value for key, value in values.items() if key not in _NESTED}
            facts.check_fields(cls, plain, Path("contract"), _NESTED)
            contract = cls(**values)
            facts.check_values(_conditions(contract), Path("contract"))
        except (KeyError, TypeError, ValueError, DataError) as error:
            raise BundleError(f"the contract is damaged ({error}). Export the bundle again.") from None
        _check_streamed(contract)
        return contract

    def to_metadata(self) -> dict[str, str]:
        """The contract as ONNX metadata: one key per field, texts as they are, the rest JSON."""
        return {PREFIX + key: value if isinstance(value, str) else json.dumps(value)
                for key, value in self.to_dict().items()}


_NESTED = ("options", "checkpoint", "input", "scores", "cache_in", "cache_out")


def check_schema(what: str, schema: object) -> None:
    """Raise `BundleError` where something was written in another schema than this version reads."""
    found = f"{what} has the schema {shown(schema)}, this satexport reads {SCHEMA}"
    if isinstance(schema, int) and schema > SCHEMA:
        raise made_by_newer(found)
    if schema != SCHEMA:
        raise BundleError(f"{found}. Export the bundle again with this version.")


def _read(kind: type[Any], fields: Any, name: str) -> Any:
    """A record of the contract from JSON. Raises `DataError` where it is damaged."""
    return kind(**facts.check_fields(kind, dict(fields), Path(f"contract.{name}")))


def _spec(fields: Mapping[str, Any]) -> TensorSpec:
    if fields["dtype"] not in CACHE_DTYPES.values():
        raise ValueError(f"dtype {shown(fields['dtype'])}, expected one of "
                         f"{', '.join(CACHE_DTYPES.values())}")
    spec: TensorSpec = _read(TensorSpec, fields, "tensor")
    return spec


def _conditions(contract: Contract) -> Iterator[facts.Condition]:
    """What numbers mean something, and which must agree."""
    rate, window, hop = contract.sample_rate, contract.window_samples, contract.hop_samples
    yield "sample_rate", rate, RATES[0] <= rate <= RATES[1], f"{RATES[0]} to {RATES[1]} Hz"
    yield "window_samples", window, 1 <= window <= LONGEST * rate, f"1 to {LONGEST} s"
    yield "hop_samples", hop, 1 <= hop <= window, f"1 to the window's {window}"
    yield "memory_steps", contract.memory_steps, contract.memory_steps >= 0, "0 or more"
    yield "classes", contract.classes, contract.classes >= 1, "1 or more"
    streams, inputs = contract.options.streams, contract.input.shape
    yield "streams", streams, streams == ANY or streams >= 1, f"1 or more, or {ANY} for any number"
    if contract.options.input == "audio":
        yield "input", list(inputs), inputs == (streams, window), f"[{streams}, {window}]"
    else:
        fits = len(inputs) == 3 and inputs[0] == streams and min(inputs[1:]) >= 1
        yield "input", list(inputs), fits, f"[{streams}, bands, frames]"
    scores, caches = contract.scores.shape, contract.cache_in
    yield "scores", list(scores), scores == (streams, contract.classes), f"[{streams}, {contract.classes}]"
    for spec in caches:
        fits = spec.shape[:1] == (streams,) and min(spec.shape) >= min(streams, 1)
        yield spec.name, list(spec.shape), fits, f"[{streams}, ...]"
    kinds = [[(spec.shape, spec.dtype) for spec in specs] for specs in (caches, contract.cache_out)]
    yield "cache_out", len(contract.cache_out), kinds[0] == kinds[1], "the shapes and dtypes of cache_in"


def _check_streamed(contract: Contract) -> None:
    """Raise `BundleError` for what this version cannot feed a graph with."""
    if contract.options.input not in INPUTS:
        raise made_by_newer(f"the graph takes {shown(contract.options.input)}, this satexport feeds "
                            f"{' or '.join(INPUTS)}")
    if contract.window_samples != contract.hop_samples:
        raise made_by_newer(f"one step hears {contract.window_samples} samples, of which "
                            f"{contract.hop_samples} are new, and this satexport streams no windows that "
                            "overlap")


def state_bytes(contract: Contract) -> int:
    """Bytes of one stream's cache, one copy of it."""
    return cache_bytes(contract.cache_in)


def cache_bytes(specs: Iterable[TensorSpec]) -> int:
    """Bytes that one stream takes of these tensors, whose first dimension are the streams."""
    return sum(np.dtype(spec.dtype).itemsize * prod(spec.shape[1:]) for spec in specs)
