"""What a runtime is to satexport: the protocol of a backend, and the table of those that there are.

A backend is a folder and a line in `BACKENDS`, which names a module that meets `Backend`. The module is
imported only where a target or a bundle asks for it, on a device too, so it imports numpy and satexport
alone; the runtime, and what it takes to write a bundle, inside of the functions that need it."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from numpy.typing import NDArray

from satexport import facts
from satexport.bundle.contract import Contract
from satexport.bundle.folder import MANIFEST, Bundle
from satexport.bundle.target import Gates, Target
from satexport.errors import BundleError, DataError, MissingError
from satexport.step import Step

if TYPE_CHECKING:
    from satexport.graph.roles import Graph

BACKENDS = {
    "onnxruntime": "satexport.backends.onnxruntime.backend",
    "openvino": "satexport.backends.openvino.backend",
    "tensorrt": "satexport.backends.tensorrt.backend"}
ITSELF = ""  # among `candidates`: the bundle, as its user loads it
Settings = TypeVar("Settings")


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How a graph is loaded; a runtime that does not know one of them ignores it."""

    threads: int | None = None  # None: the target's number; where it has none the runtime decides
    low_memory: bool = False    # give each tensor's memory back as soon as it is not needed any more
    share_cores: bool = False   # threads sleep between steps: faster where PyTorch runs in the same process,
                                # slower elsewhere


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What a backend writes a bundle from."""

    graph: Graph              # quantised as the target says, its caches in the dtype of the contract
    fp32: Graph               # the graph that it was made of
    contract: Contract
    target: Target            # resolved
    initial_cache: Sequence[NDArray[Any]]  # of one stream, in the order of the contract
    int8_products: int        # products with a weight that are int8 in `graph`


@dataclass(frozen=True, kw_only=True)
class Written:
    """The graphs that a backend has written into a bundle's folder."""

    graph: str                # the file that the manifest names
    built_elsewhere: Mapping[str, Step] = field(default_factory=dict)
    # graphs that another machine makes an engine of, as steps that compute here what each says: their scores
    # of the golden chunks go with the bundle, so that the engine can be held against them


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What of a bundle is proven on this machine."""

    step: Step
    gates: Gates                  # that it is held to
    report: str = "parity.json"   # name in the bundle's reports/
    facts: Mapping[str, str] = field(default_factory=dict)  # what that report also says of it


class Backend(Protocol):
    """A runtime, from a target's table to a step. A module meets it with functions of these names."""

    PACKAGE: str                        # the runtime's Python package
    PRECISIONS: tuple[str, ...]         # that a target may ask for
    QUANTIZATION: Mapping[str, object]  # keys of [quantization] for which the runtime takes one value alone:
                                        # a target need not state them

    def check(self, target: Target, where: Path) -> None:
        """Check what a target says: the backend's own table (`target.options`), and what of the rest this
        runtime cannot do. Needs no runtime. Raises `DataError` that begins with `where`."""

    def resolve(self, target: Target) -> Target:
        """The target with every choice made that depends on this machine, and its options complete. Raises
        `MissingError` if the runtime, the device or the precision is not here."""

    def accepts(self, contract: Contract, target: Target) -> None:
        """Raise `UsageError` if no bundle can be made of a graph with this contract: its number of streams,
        its opset, the dtype of its caches."""

    def write(self, folder: Path, draft: Draft) -> Written:
        """Write the graphs, and whatever else the bundle needs but the parts that every bundle has: files, no
        folders. Raises
        `UsageError` or `RunError` if that cannot be done; what was written is then thrown away."""

    def candidates(self, bundle: Bundle, options: LoadOptions) -> Mapping[str, Candidate]:
        """What is proven on this machine, the target's own first: `ITSELF`, or its graphs by name where it
        runs only on another machine. Raises what `load` does."""

    def finish(self, bundle: Bundle) -> Mapping[str, Any] | None:
        """What else is made once the bundle is complete, beside its parts: what the report says of it, its
        "summary" a sentence for people; None if there is nothing."""

    def load(self, bundle: Bundle, options: LoadOptions) -> Step:
        """Load a bundle whose target was checked. Raises `MissingError` if the runtime or the device is not
        here, `BundleError` if a file cannot be loaded or was made with another contract."""


def find_backend(name: str) -> Backend:
    """The backend of that name. Raises `KeyError` if there is none."""
    return cast(Backend, importlib.import_module(BACKENDS[name]))


def load_step(bundle: Bundle, options: LoadOptions = LoadOptions()) -> Step:
    """Load a bundle's graph with the runtime that its target names. Raises `MissingError` if this satexport
    has no such backend, or the runtime is not installed; `BundleError` as `Backend.load`."""
    check_known(bundle)
    backend = find_backend(bundle.target.backend)
    try:
        backend.check(bundle.target, bundle.path / MANIFEST)
    except DataError as error:
        raise BundleError(f"{error} Make the bundle again.") from None
    return backend.load(bundle, options)


def check_known(bundle: Bundle) -> None:
    """Raise `MissingError` if this satexport has no such backend as a bundle is for."""
    name = bundle.target.backend
    if name not in BACKENDS:
        raise MissingError(f"{bundle.path} is for the backend {name!r}, made by a newer version; this "
                           f"satexport runs {', '.join(BACKENDS)}. Use the version that wrote it.")


def itself(bundle: Bundle, step: Step) -> Mapping[str, Candidate]:
    """The candidates of a bundle that runs on this machine: it alone."""
    return {ITSELF: Candidate(step=step, gates=bundle.target.gates)}


def read_settings(kind: type[Settings], target: Target, where: Path) -> Settings:
    """The options of a target as the backend's own dataclass. Raises `DataError` that begins with `where`."""
    return kind(**facts.check_fields(kind, dict(target.options), where, table=target.backend))


def complete_options(settings: Any) -> dict[str, Any]:
    """Settings as the options of a target, each stated, as JSON has them."""
    return {key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(settings).items()}


def precision_conditions(target: Target, precisions: Sequence[str],
                         forced: Mapping[str, object]) -> Iterator[facts.Condition]:
    """A target's precision is one of the backend's, and its [quantization] contradicts none of the values
    that the backend forces."""
    yield ("precision", target.precision, target.precision in precisions,
           f"{' or '.join(precisions)} with the backend {target.backend}")
    if target.quantization:
        for key, only in forced.items():
            value = getattr(target.quantization, key)
            yield (key, value, value == only,
                   f"{facts.toml_text(only)}, the only one that the backend {target.backend} takes")
