"""A board without a GPU: ONNX Runtime in place of TensorRT, and a clock that only steps and pauses
advance."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from satexport.backends.tensorrt.engine import Engine
from satexport.backends.tensorrt.settings import TensorRtSettings
from satexport.errors import RunError
from tests.backends.tensorrt.fake_engine import FakeEngine, layer
from tests.measure.clock import Clock

LAYERS = {"int8": {"Layers": [layer("Quantize", "Half", "Int8"),
                              *[layer("gemm", "Int8 NC/4HW4", "Half")] * 60]},
          "fp16": {"Layers": [layer("gemm", "Half", "Half NC/8HW8")]}}


CLOCK = Clock()  # the engine decides how long a step takes, not the speed of this machine


class Timed(FakeEngine):
    """An engine whose step takes 10 ms."""

    def download(self, array: Any, address: int) -> None:
        super().download(array, address)
        CLOCK.sleep(0.01)


class Slow(Timed):
    """An engine whose step takes 110 ms."""

    def download(self, array: Any, address: int) -> None:
        super().download(array, address)
        CLOCK.sleep(0.1)


class FakeBoard:
    """A board whose engines are the graphs themselves. The engine named by `slow` is slow, the one named by
    `broken` gives wrong scores, the one named by `forgets` loses its cache, and the one named by `fails`
    cannot be built."""

    tensorrt, compute_capability, description = "10.3.0.26", "8.7", "a fake Orin"

    def __init__(self) -> None:
        self.free, self.built, self.layers_of = 4_000_000_000, list[str](), dict(LAYERS)
        self.slow, self.fails, self.broken, self.forgets = "int8", "", "", ""
        self.calls_of_free_bytes = 0

    def free_bytes(self) -> int:
        self.calls_of_free_bytes += 1
        return self.free - 50_000_000 * (self.calls_of_free_bytes > 1 and self.calls_of_free_bytes % 2 == 1)

    def build(self, graph: Path, engine: Path, settings: TensorRtSettings, timing_cache: Path) -> None:
        if graph.stem == self.fails:
            raise RunError(f"TensorRT builds no engine of {graph.name}")
        self.built.append(graph.stem)
        shutil.copy(graph, engine)

    def load(self, engine: Path) -> Engine:
        kind = {self.slow: Slow, self.broken: Wrong, self.forgets: Forgetful}.get(engine.stem, Timed)
        loaded = kind(engine.read_bytes())
        loaded.information = self.layers_of[engine.stem]
        return loaded


class Forgetful(Timed):
    """An engine whose every other step reads the caches of silence instead of its own."""

    first: ClassVar[dict[int, Any]] = {}  # the last upload to each address

    def upload(self, address: int, array: Any) -> None:
        self.first[address] = array.copy()
        super().upload(address, array)

    def free(self, address: int) -> None:
        self.first.pop(address, None)  # the next tensor may get this address
        super().free(address)

    def close(self) -> None:
        self.first.clear()
        super().close()

    def prepare(self, addresses: Mapping[str, int]) -> Any:
        launch, old = super().prepare(addresses), [at for name, at in addresses.items() if "cache_in" in name]

        def forgetting() -> None:
            for address in set(old) & set(self.first):
                FakeEngine.upload(self, address, self.first[address])
            launch()

        return forgetting


class Wrong(Timed):
    """An engine with wrong scores."""

    def download(self, array: Any, address: int) -> None:
        super().download(array, address)
        array[:] = 1 - array
