"""Run bundles of the demo on emulated ARM CPUs, and compare their scores with PyTorch's and with this CPU's.

    python -m tests.arm [--only CPU] [--write]

Exit code 1: a bundle failed; 3: emulation is not installed. Downloads, bundles and reports stay in build/arm.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from satexport.bundle.folder import open_bundle
from satexport.errors import GateError
from satexport.files import write_json, write_text
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_variant
from satexport.origin import read_cpu
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.export import export_onnx
from satexport.pipeline.plan import BuildOptions
from satexport.quantize.calibration_set import find_calibration
from satexport.report.markdown import align_rows
from satexport.targets import find_target
from tests import ROOT
from tests.arm.device import find_emulator, prepare
from tests.arm.emulation import CPUS, EmulatedCpu, Emulation

FOLDER = ROOT / "build" / "arm"
PAGE = ROOT / "docs" / "arm.md"
BEGIN, END = "<!-- make test-arm -->", "<!-- make test-arm end -->"
DoubleArray = np.ndarray[Any, np.dtype[np.float64]]
LIMITS = {"fp32": 1e-5, "int8": 5e-3}  # of the score difference from this CPU; in int8 a value near a half
                                       # may be rounded up there and down here


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a bundle did on an emulated CPU."""

    cpu: str
    what: str
    bundle: str
    precision: str
    chunks: int
    from_pytorch: float   # largest score difference, golden chunks
    from_here: float      # the same from the scores of the same bundle on the CPU that emulates
    top1: float           # share of golden chunks in which both rank the same class first
    verdict: str
    origin: dict[str, Any]


def main() -> None:
    """Run all bundles on all CPUs. Raises `SatexportError` if one fails or something is not installed."""
    parser = argparse.ArgumentParser(prog="python -m tests.arm", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=[cpu.name for cpu in CPUS], help="one CPU")
    parser.add_argument("--write", action="store_true", help=f"also write the table into {PAGE.name}")
    given = parser.parse_args()
    emulation = Emulation(find_emulator(), prepare(FOLDER))
    results = list(run_all(emulation, [cpu for cpu in CPUS if given.only in (None, cpu.name)]))
    write_json(FOLDER / "emulated.json", {"results": [asdict(result) for result in results]})
    print(table(results))
    if given.write and not given.only:
        before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
        write_text(PAGE, f"{before}{BEGIN}\n\n{table(results)}\n\n{END}{rest.partition(END)[2]}")


def run_all(emulation: Emulation, cpus: Sequence[EmulatedCpu]) -> Iterator[Result]:
    """Make the bundles and run each on its CPUs. Raises `GateError` if one is not what it should be."""
    print("Making onnx ...", flush=True)
    demo = load_checkpoint("demo", find_variant("sat-t", 2))
    export = export_onnx(demo, find_target("onnx"), FOLDER / "bundles").path
    fp32 = make_bundle(export, "cpu-fp32")
    same = open_bundle(export).graph.read_bytes() == open_bundle(fp32).graph.read_bytes()
    for cpu in cpus:
        int8 = make_bundle(export, cpu.target)
        for bundle in (export, int8) if same else (export, fp32, int8):
            begin = time.monotonic()
            result = run_bundle(emulation, cpu, bundle)
            print(f"{cpu.name}, {result.bundle}: {result.verdict}, {result.from_pytorch:.1e} from PyTorch, "
                  f"{result.from_here:.1e} from this CPU ({time.monotonic() - begin:.0f} s)", flush=True)
            yield result


def make_bundle(export: Path, target: str) -> Path:
    """Make a target's bundle of an export, without proving it here, and return its folder."""
    print(f"Making {target} ...", flush=True)
    options = BuildOptions(calibration=find_calibration("synthetic"))
    return compile_bundle(open_bundle(export), find_target(target), FOLDER / "bundles", options).path


def run_here(*arguments: object, audio: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the command line on this machine with `audio` as standard input."""
    return subprocess.run([sys.executable, "-m", "satexport", *map(str, arguments)], cwd=ROOT, input=audio,
                          capture_output=True, check=False)


def run_bundle(emulation: Emulation, cpu: EmulatedCpu, folder: Path) -> Result:
    """Prove a bundle on an emulated CPU and tag its golden chunks there and here. Raises `GateError` if it
    does not pass, if its scores differ from this CPU's, or if the report does not say that the CPU is
    emulated."""
    bundle, report_file = open_bundle(folder), FOLDER / f"{cpu.name}-{folder.name}.json"
    emulation.satexport(cpu, "parity", folder, "--golden", "--report", report_file, "--threads", 1)
    report = json.loads(report_file.read_bytes())
    (difference,) = report["differences"].values()
    audio = np.asarray(bundle.golden()[0]).clip(-1, 1)
    pcm = (audio * 32767).astype("<i2").tobytes()
    tag = ("run", folder, "-", "--json", "--top", len(bundle.labels), "--threads", 1)
    there = read_scores(emulation.satexport(cpu, *tag, audio=pcm))
    here = read_scores(run_here(*tag, audio=pcm).stdout.decode("utf-8"))
    result = Result(cpu=cpu.name, what=cpu.what, bundle=folder.name, precision=bundle.target.precision,
                    chunks=difference["chunks"], from_pytorch=difference["largest"],
                    from_here=float(np.abs(there - here).max()), top1=difference["top1_agreement"],
                    verdict=report["verdict"], origin=report["origin"])
    if faults := list(find_faults(result)):
        raise GateError(f"{cpu.name}, {folder.name}: {'; '.join(faults)}.")
    return result


def read_scores(lines: str) -> DoubleArray:
    """Return the scores [chunks, classes] that `satexport run --json` printed, the classes by their labels.
    They have six decimals."""
    tags = [{tag["label"]: tag["score"] for tag in json.loads(line)["tags"]} for line in lines.splitlines()]
    return np.array([[scores[label] for label in sorted(scores)] for scores in tags])


def find_faults(result: Result) -> Iterator[str]:
    """Yield what is wrong with a result."""
    if result.verdict != "passed":
        yield f"the verdict is {result.verdict}"
    if result.top1 < 1:
        yield f"the class with the highest score is PyTorch's in {result.top1:.0%} of the chunks only"
    if not result.from_here <= LIMITS[result.precision]:
        yield (f"the scores differ by {result.from_here:.1e} from this CPU's, expected at most "
               f"{LIMITS[result.precision]:g}")
    if "emulated" not in result.origin["cpu"]:
        yield f"the report names the CPU {result.origin['cpu']!r} and does not say that it is emulated"


def table(results: Sequence[Result]) -> str:
    """Return the results as a Markdown table, and what they were made with."""
    head = ["CPU, emulated", "stands for", "bundle", "precision", "from PyTorch", "from x86", "same top-1"]
    rows = [[result.cpu, result.what, result.bundle, result.precision, f"{result.from_pytorch:.1e}",
             f"{result.from_here:.1e}", f"{result.top1 * result.chunks:.0f} of {result.chunks}"]
            for result in results]
    versions = ", ".join(f"{name} {version}" for name, version in results[0].origin["versions"].items())
    cpu = read_cpu()
    return (f"{align_rows([head, *rows], [False] * 4 + [True] * 3)}\n\n"
            f"Emulated: {versions}. The CPU that scores are compared with:\n"
            f"{cpu.name} ({' '.join(cpu.flags)}).")


if __name__ == "__main__":
    command.run(main)
