"""The protocol of a peer: another way to run a model, with the same weights over the same audio.

A peer is a class in a file of this folder and a line in `registry.PEERS`. It runs in a process of its own
(`worker`), with the packages of its environment (`environments`).
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from satexport.files import json_text, staged_folder
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_variant
from satexport.models.family import Checkpoint, Variant
from satexport.origin import origin
from satexport.step import Step

ROOT = Path(__file__).parents[2]
WEIGHTS = (                           # what PyTorch's model is made from
    *(f"satexport/models/{name}.py" for name in (
        "sat/network", "sat/reference", "sat/variants", "sat/keys", "transformer_network", "seeded")),
    "satexport/data/demo-*")
BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # CPU flags: any of them


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model that all peers run: a SAT, a ViT or a CED, because the peers are made from their network."""

    model: str
    delay: int            # s
    checkpoint: str       # "demo" or "random"
    recordings: str = ""  # ESC-10 or ESC-50, whose fold 1 calibrates int8; "": synthetic sounds

    @property
    def name(self) -> str:
        """The name in the results, "sat-t-2s-demo"."""
        return f"{self.model}-{self.delay}s{'' if self.checkpoint == 'random' else f'-{self.checkpoint}'}"

    @property
    def variant(self) -> Variant:
        return find_variant(self.model, self.delay)

    def load_weights(self) -> Checkpoint[Any]:
        """Return the weights, the same for all peers."""
        return load_checkpoint(self.checkpoint, self.variant)


class Store:
    """The folder of what peers are built from, by the SHA-256 of what it depends on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self, name: str, case: Case, sources: Iterable[str], build: Callable[[Path], None]) -> Path:
        """Return the folder that `build` has filled for a case, and call it if there is none yet. `sources`
        are patterns of the files in this repository on which the result depends, besides the versions of
        installed packages. Deletes what earlier sources made."""
        digest = hashlib.sha256(json_text({"case": asdict(case), "versions": origin()["versions"]}).encode())
        for pattern in sources:
            for path in sorted(path for path in ROOT.glob(pattern) if path.is_file()):
                digest.update(path.read_bytes())
        prefix = f"{name}-{case.name}"
        path = self.folder / prefix / digest.hexdigest()[:12]
        if not path.is_dir():
            shutil.rmtree(path.parent, ignore_errors=True)
            with staged_folder(path, lambda _: False) as stage:
                build(stage)
        return path


class Peer(Protocol):
    """Another way to run a model, or satexport itself."""

    @property
    def name(self) -> str:
        """For `--peers` and in the results; unique."""

    @property
    def title(self) -> str:
        """In tables."""

    @property
    def precision(self) -> str:
        """It is "fp32", "bf16" or "int8": it is compared with those of the same."""

    @property
    def environment(self) -> str:
        """The name of its lock file without ".lock"; "": the project's environment."""

    @property
    def packages(self) -> tuple[str, ...]:
        """Whose versions the results state."""

    @property
    def starts_from_zeros(self) -> bool:
        """Whether users run it with a cache of zeros: it is also scored so."""

    @property
    def is_ours(self) -> bool:
        """Whether it is a bundle of satexport."""

    def prepare(self, case: Case, store: Store) -> Path:
        """Return the folder that `load` needs, which this builds if the store lacks it. Raises
        `MissingError` if this machine cannot run the peer."""

    def load(self, case: Case, folder: Path, threads: int) -> Step:
        """Return the step of one stream, from audio [1, samples] to scores, in this number of threads."""


class PeerStep:
    """What the steps of peers share: one stream, and a runtime that Python frees."""

    _initial: Any  # the cache after silence

    def initial_cache(self, streams: int = 1) -> Any:
        assert streams == 1
        return self._initial

    def silence(self, cache: Any, stream: int) -> Any:
        return self.initial_cache()

    def executed(self) -> dict[str, dict[str, int]]:
        return {}

    def close(self) -> None:
        """Do nothing: Python frees all."""


def find_missing_bf16() -> str:
    """Return why a peer in bf16 cannot run on this CPU, "" if it can."""
    return "" if BF16 & set(origin()["cpu_flags"]) else "this CPU has no bf16"
