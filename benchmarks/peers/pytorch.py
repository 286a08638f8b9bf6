"""PyTorch: the reference itself, and torch.compile of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers.peer import Case, PeerStep, Store, find_missing_bf16
from benchmarks.peers.published import load_published
from satexport.errors import MissingError
from satexport.step import FloatArray, Outputs, Step


@dataclass(frozen=True)
class Eager:
    """The reference of every proof: PyTorch in fp32 with the published cache."""

    name = "eager"
    title = "PyTorch eager"
    precision = "fp32"
    environment = ""
    starts_from_zeros = False
    packages = ("torch",)
    is_ours = False

    def prepare(self, case: Case, store: Store) -> Path:
        return store.folder

    def load(self, case: Case, folder: Path, threads: int) -> Step:
        torch.set_num_threads(threads)
        return load_published(case)


@dataclass(frozen=True)
class Compiled:
    """torch.compile of the reference with its cache; in bf16 the front end and its batch norm stay in fp32.
    Weights are constants (`freezing`), which makes it faster."""

    precision: str
    environment = ""
    starts_from_zeros = False
    packages = ("torch",)
    is_ours = False

    @property
    def name(self) -> str:
        return f"compile-{self.precision}"

    @property
    def title(self) -> str:
        return "torch.compile"

    def prepare(self, case: Case, store: Store) -> Path:
        """Compile once, so that later processes find the kernels in the cache."""
        if self.precision == "bf16" and (why_not := find_missing_bf16()):
            raise MissingError(why_not)
        folder = store.folder / "inductor"
        step = self.load(case, folder, 1)
        step(np.zeros((1, case.variant.window_samples), np.float32), step.initial_cache(1))
        return folder

    def load(self, case: Case, folder: Path, threads: int) -> Step:
        os.environ |= {"TORCHINDUCTOR_CACHE_DIR": str(folder), "TORCHINDUCTOR_COMPILE_THREADS": "1",
                       "TORCHINDUCTOR_FREEZING": "1"}
        torch.set_num_threads(threads)
        return CompiledStep(case, torch.bfloat16 if self.precision == "bf16" else torch.float32)


class CompiledStep(PeerStep):
    """The compiled reference as a step."""

    def __init__(self, case: Case, dtype: torch.dtype) -> None:
        model, self._dtype = load_published(case).model, dtype
        with torch.no_grad():
            self._initial = model.silence_cache()
        front_end, norm, frames = model.front_end, model.init_bn, model.variant.chunk_frames
        model.to(dtype)
        front_end.float()
        norm.float()

        def tag(audio: torch.Tensor, cache: torch.Tensor | None) -> Any:
            features = norm(front_end(audio).unsqueeze(2)).transpose(1, 2)[..., :frames]
            logits, cache = model.logits(features.to(dtype), cache)
            return logits.float().sigmoid(), cache

        self._tag = torch.compile(tag, dynamic=False)

    def initial_cache(self, streams: int = 1) -> torch.Tensor | None:
        assert streams == 1
        return None if self._initial is None else self._initial.to(self._dtype, copy=True)

    def __call__(self, x: FloatArray, cache: torch.Tensor | None) -> tuple[Outputs, torch.Tensor | None]:
        """Compute the scores of audio [1, samples], and the new cache."""
        with torch.no_grad():
            scores, cache = self._tag(torch.from_numpy(x), cache)
            return Outputs(np.asarray(scores.numpy())), cache
