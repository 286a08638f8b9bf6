"""The bundles of satexport, as its commands make and load them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.peer import Case, Store
from satexport.backends.backend import LoadOptions, find_backend, load_step
from satexport.bundle.folder import open_bundle
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.export import export_onnx
from satexport.pipeline.plan import BuildOptions
from satexport.quantize.calibration_set import find_calibration
from satexport.step import Step
from satexport.targets import find_target

SOURCES = ("satexport/**/*.py", "satexport/data/*", "targets/*", "targets/common/*", "calibration/*")


@dataclass(frozen=True)
class Ours:
    """A bundle for a target."""

    target: str
    environment = ""
    starts_from_zeros = False
    is_ours = True

    @property
    def name(self) -> str:
        return self.target

    @property
    def title(self) -> str:
        return f"satexport {self.target}"

    @property
    def precision(self) -> str:
        return find_target(self.target).precision

    @property
    def packages(self) -> tuple[str, ...]:
        return "satexport", find_backend(find_target(self.target).backend).PACKAGE

    def prepare(self, case: Case, store: Store) -> Path:
        target = find_target(self.target)
        find_backend(target.backend).resolve(target)  # raises `MissingError` before any work
        source, recordings = export(case, store), Path(case.recordings) if case.recordings else None
        options = BuildOptions(calibration=find_calibration("esc50" if recordings else "synthetic"),
                               recordings=recordings)
        folder = store.make(self.name, case, SOURCES, lambda stage: (
            compile_bundle(open_bundle(source), target, stage, options), None)[1])
        return next(folder.glob("*/*/"))

    def load(self, case: Case, folder: Path, threads: int) -> Step:
        """ONNX Runtime's threads spin, as they do by default in the peers that use it."""
        return load_step(open_bundle(folder), LoadOptions(threads=threads, spinning=True))


def export(case: Case, store: Store) -> Path:
    """Return the bundle of the fp32 export."""
    folder = store.make("export", case, SOURCES, lambda stage: (
        export_onnx(case.load_weights(), find_target("onnx"), stage), None)[1])
    return next(folder.glob("*/*/"))
