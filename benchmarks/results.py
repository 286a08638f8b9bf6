"""The results table in README: every variant exported, proven over ten minutes and measured.

    make results                             everything, an hour on two idle cores
    python benchmarks/results.py --kind int8 one part of it; the tables, too, where the others were run before
    python benchmarks/results.py --table     the tables again, from the reports in build/results

Seeded weights for the fifteen variants (what they take does not depend on the weights), the demo
checkpoint for itself, SAT-B at 2 s once in each options, the six SAT variants and the demo in int8, the
SAT variants at 2 s and the demo under OpenVINO. The demo's int8 is calibrated and gated by ESC-10 where
`--esc10` (../shared/esc10) is there. Every bundle leaves its reports in build/results; the bundles
themselves are deleted again.

What was learned about speed on the way (2 cores of an AMD EPYC with AVX-512, ONNX Runtime 1.31; each
pair in processes of their own, in turns):

- Matrix products are 86 to 92 % of a step of SAT-B. One stream is bound by reading the weights
  (48 rows meet each of them: 270 GFLOP/s, and 459 where they stay in the cache), eight streams by the
  products themselves (380 of 450 GFLOP/s that ONNX Runtime reaches on any shape here). So eight streams
  come to 1.4 times the throughput of one, four to 1.35, sixteen to 1.4; one thread 1.34; huge pages change
  nothing. On a CPU whose single stream is slower for want of bandwidth the gain is larger.
- The real FFT in two stages: 0.25 ms in place of 0.55 for 2 s by one thread, SAT-T as a whole 5 %.
- ONNX Runtime keeps buffers of one size for the next tensor of that size, so transient memory is a sum
  over the different sizes: q, k and v in one product (4 % faster on SAT-T by one thread, 3 % slower on
  SAT-S) costs 0.6 MB on SAT-B. A Slice that writes a cache waits to the end of the step and holds what
  it slices, in every layer: written before the row, it holds nothing (SAT-S: 5.0 to 2.2 MB).
- The last block for the class token alone: 6 % less work for SAT-S and ViT-S.
- int8 under ONNX Runtime: products take two thirds of a step of SAT-B, at 1.0 TOP/s on the 48 rows of one
  stream and 1.4 on the 384 of eight; with attention in int8, too, the products of attention are faster and
  their conversions cost more than that. So eight streams come to 1.4 times one here as well. Its memory
  pattern (on by default) holds 3 MB more and is not faster.
- OpenVINO: pinning, reserving cores, its hints for latency and throughput change a step by less than 2 %. Of
  SAT-B in int8 84 % are products, at the same 1.0 TOP/s; activations in int8 or uint8 are as fast,
  attention in int8 is slower, a cache as inputs and outputs is a tenth slower on SAT-T than as states. A
  normalisation at rank 3 takes its quantisation in: 12 % on SAT-T, 9 on SAT-S, 5 on SAT-B. Of eight streams,
  two requests of four in one step each are the fastest (1.33 times one stream on SAT-B, 1.42 on SAT-T), one
  of eight comes next (1.28, 1.32), eight of one last (1.14, 1.33).
- Bursts of ten steps were too short for small models: 25 ms, in which caches and clocks were still warming.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from satexport.bundle.contract import USUAL_OPTIONS, GraphOptions
from satexport.bundle.folder import Bundle, open_bundle
from satexport.files import write_json, write_text
from satexport.measure.turns import Settings, measure
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_variant
from satexport.models.sat.family import VARIANTS
from satexport.models.sat.paper import NOTE
from satexport.parity.protocols import find_gate_set
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.export import export_onnx
from satexport.pipeline.plan import BuildOptions, ProofOptions, gate_folds
from satexport.pipeline.prove import judge
from satexport.quantize.calibration_set import find_calibration
from satexport.tagging.tagger import load
from satexport.targets import find_target

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "results"
BEGIN, END = "<!-- results: make results -->", "<!-- results end -->"
VERSIONS = ("onnxruntime", "torch", "onnx", "python")
FORMS = (GraphOptions(cache="hidden"), GraphOptions(input="mel"), GraphOptions(streams=8))  # of SAT-B at 2 s


@dataclass(frozen=True)
class Case:
    """A bundle that is exported, proven and measured."""

    model: str
    delay: int
    checkpoint: str
    options: GraphOptions = USUAL_OPTIONS
    target: str = "onnx"
    calibration: str = "synthetic"   # of int8
    one: str = ""                    # target of the one stream that several are compared with; "": its own

    @property
    def name(self) -> str:
        demo = "-demo" if self.checkpoint == "demo" else ""
        target = "" if self.target == "onnx" else f"-{self.target.removeprefix('cpu-')}"
        real = "" if self.calibration == "synthetic" else f"-{self.calibration}"
        return f"{self.model}-{self.delay}s{demo}{target}{self.options.suffix}{real}"


CASES = [
    *(Case(model, delay, "random") for model, delay in VARIANTS),
    Case("sat-t", 2, "demo"),
    *(Case("sat-b", 2, "random", options) for options in FORMS),
]
INT8 = [
    *(Case(*variant, "random", target="cpu-int8") for variant in VARIANTS if variant[0].startswith("sat")),
    *(Case("sat-b", 2, "random", GraphOptions(cache_dtype=dtype), "cpu-int8") for dtype in ("fp16", "int8")),
    Case("sat-b", 2, "random", GraphOptions(streams=8), "cpu-int8"),
    Case("sat-t", 2, "demo", target="cpu-int8"),
    Case("sat-t", 2, "demo", target="cpu-int8", calibration="esc50"),
]
OPENVINO = [
    *(Case(model, 2, "random", target=f"openvino-{precision}")
      for model in ("sat-t", "sat-s", "sat-b") for precision in ("fp32", "bf16", "int8")),
    Case("sat-b", 2, "random", GraphOptions(streams=8), "openvino-int8"),
    Case("sat-b", 2, "random", GraphOptions(streams=8), "openvino-throughput", one="openvino-int8"),
    *(Case("sat-t", 2, "demo", target=f"openvino-{precision}", calibration="esc50")
      for precision in ("bf16", "int8")),
]
KINDS = {"fp32": CASES, "int8": INT8, "openvino": OPENVINO}


def run(case: Case, threads: int, minutes: float, esc10: Path) -> None:
    """Export, prove and measure one bundle; its reports stay."""
    folder = BUILD / case.name
    path, beside = made(case, folder / "bundle", esc10)
    tagger = load(path, threads, share_cores=True)
    data = str(esc10) if case.calibration == "esc50" else "synthetic"
    folds = gate_folds(data, None, find_calibration(case.calibration))
    _, report = judge(tagger, ProofOptions(minutes=minutes if case.options == USUAL_OPTIONS else 1,
                                           threads=threads), find_gate_set(tagger.bundle, data, folds))
    write_json(folder / "parity.json", report)
    measured = measure([tagger.bundle, *beside], Settings(threads=threads))
    write_json(folder / "measure.json", measured.to_json())
    shutil.rmtree(folder / "bundle")


def made(case: Case, folder: Path, esc10: Path) -> tuple[Path, list[Bundle]]:
    """The bundle of a case, and those that are measured in turns with it: what several streams are
    compared with."""
    checkpoint = load_checkpoint(case.checkpoint, find_variant(case.model, case.delay))
    wanted_ones = [(case.options, case.target)]
    if case.options.streams > 1:
        wanted_ones.append((USUAL_OPTIONS, case.one or case.target))
    paths = []
    for options, target in wanted_ones:
        path = export_onnx(checkpoint, find_target("onnx"), folder, replace(options, cache_dtype="fp32")).path
        if target != "onnx":
            build = BuildOptions(calibration=find_calibration(case.calibration), recordings=esc10,
                                 cache_dtype=options.cache_dtype)
            path = compile_bundle(open_bundle(path), find_target(target), folder, build).path
        paths.append(path)
    return paths[0], [open_bundle(path) for path in paths[1:]]


def reports(case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    """What parity and measure said of a bundle."""
    parity, measured = (json.loads((BUILD / case.name / name).read_bytes())
                        for name in ("parity.json", "measure.json"))
    return parity, measured


def rows(cases: list[Case]) -> Iterator[list[str]]:
    """Lines of the table, the first one its head."""
    yield ["", "tokens new / cached", "GFLOP model + front end", "paper's", "weights, MB", "state, MB",
           "transient, MB", "paper's, MB", "resident, MB", "step, ms: burst / paused", "times PyTorch eager",
           "largest score difference"]
    for case in cases:
        parity, measured = reports(case)
        entry = measured["bundles"][0]
        memory, paper = entry["memory_bytes"], entry["paper"]
        megabytes = {kind: "-" if count is None else f"{count / 1e6:.1f}" for kind, count in memory.items()}
        (over, first), *_ = parity["differences"].items()
        yield [
            case.name, f"{entry['tokens']['new']} / {entry['tokens']['cached']}",
            f"{entry['operations']['model'] / 1e9:.3f} + {entry['operations']['front_end'] / 1e9:.3f}",
            f"{paper['gflops']:g}",
            megabytes["weights"], f"{memory['state'] / 1e6:.2f}", megabytes["transient"],
            f"{paper['memory_mb']:g}", megabytes["resident"],
            f"{entry['burst']['median_ms']:.1f} / {entry['paused']['median_ms']:.1f}",
            f"{entry['times_eager']['burst']:.2f} / {entry['times_eager']['paused']:.2f}",
            f"{first['largest']:.1e} over {over.removesuffix(' of stream')}"]


def target_rows(cases: list[Case]) -> Iterator[list[str]]:
    """The same for the bundles of targets."""
    yield ["", "file, MB", "state, MB", "transient, MB", "resident, MB", "step, ms: burst / paused",
           "times PyTorch eager", "score difference: largest / mean", "top-1 agree", "drift"]
    for case in cases:
        parity, measured = reports(case)
        entry = measured["bundles"][0]
        memory, first = entry["memory_bytes"], next(iter(parity["differences"].values()))
        yield [case.name,
               *(f"{memory[kind] / 1e6:.1f}" for kind in ("weights", "state", "transient", "resident")),
               f"{entry['burst']['median_ms']:.1f} / {entry['paused']['median_ms']:.1f}",
               f"{entry['times_eager']['burst']:.2f} / {entry['times_eager']['paused']:.2f}",
               f"{first['largest']:.1e} / {first['mean']:.1e}", f"{first['top1_agreement']:.3f}",
               f"{parity['drift']['drift']:+.1%}" if parity["drift"] else "-"]


def target_text() -> str:
    """What is said about int8 and about OpenVINO."""
    eight, openvino_eight, throughput = (case for case in (*INT8, *OPENVINO) if case.options.streams == 8)
    version = reports(openvino_eight)[1]["origin"]["versions"]["openvino"]
    return f"""int8 (`satexport cpu --int8`), the same way. mAP of the demo: {kept(INT8)}. Eight streams in \
one step: {times_one_stream(eight)}. Random weights tell time, memory and that nothing overflows; what int8 \
costs in accuracy only trained ones do.

{table(target_rows(there(INT8)))}

OpenVINO {version} (`satexport openvino`), the same way. mAP of the demo: {kept(OPENVINO)}. Eight streams \
in one step: {times_one_stream(openvino_eight)}; shared between two requests {times_one_stream(throughput)}. \
What it computes in, as read back: {computed()}.

{table(target_rows(there(OPENVINO)))}"""


def there(cases: list[Case]) -> list[Case]:
    """The cases that were run: those on real clips need them."""
    return [case for case in cases if (BUILD / case.name / "measure.json").is_file()]


def kept(cases: list[Case]) -> str:
    """What the demo keeps of its mAP."""
    lines = []
    for case in (case for case in there(cases) if case.checkpoint == "demo"):
        scored = reports(case)[0]["set"]
        name = "ESC-10 fold 4" if case.calibration == "esc50" else "the synthetic set"
        precision = find_target(case.target).precision
        calibrated = f", calibrated on {case.calibration}," if precision == "int8" else ""
        lines.append(f"{precision}{calibrated} keeps {scored['bundle_map']:.4f} of "
                     f"{scored['pytorch_map']:.4f} on {name}, top-1 the same in "
                     f"{scored['differences']['top1_agreement']:.1%} of its chunks")
    return "; ".join(lines)


def bursts() -> list[int]:
    """How many steps the bursts had at most, of reports that were not all made in one run."""
    cases = there([case for kind in KINDS.values() for case in kind])
    return sorted({reports(case)[1]["settings"]["steps"] for case in cases})


def times_one_stream(case: Case) -> str:
    times = reports(case)[1]["bundles"][0]["times_one_stream"]
    return f"{times:.2f} times the chunks per core-second of one stream, measured in turns with it"


def computed() -> str:
    """Precisions of the products of SAT-B under OpenVINO."""
    lines = []
    for case in (case for case in OPENVINO if case.model == "sat-b" and case.options == USUAL_OPTIONS):
        executed = reports(case)[0]["executed"]
        parts = (f"{count} in {precision}" for precision, count in executed["products"].items())
        lines.append(f"{case.target}: products {' and '.join(parts)}, front end in "
                     f"{' and '.join(executed['front end'])}")
    return "; ".join(lines)


def table(lines: Iterator[list[str]]) -> str:
    """The table in Markdown."""
    head, *body = lines
    every = [head, ["---"] + ["---:"] * (len(head) - 1), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in every)


def text() -> str:
    """What stands in README between the marks."""
    demo, measured = reports(Case("sat-t", 2, "demo"))
    made, scored = measured["origin"], demo["set"]
    versions = ", ".join(f"{name} {made['versions'][name]}" for name in VERSIONS)
    eight = reports(Case("sat-b", 2, "random", GraphOptions(streams=8)))[1]["bundles"][0]["times_one_stream"]
    return f"""{BEGIN}
{table(rows([case for case in CASES if case.options == USUAL_OPTIONS]))}

The demo keeps its mAP on the {scored["clips"]} synthetic clips: {scored["bundle_map"]:.4f} of \
{scored["pytorch_map"]:.4f}. SAT-B at 2 s in its other forms (`-x8`: eight streams in one step, whose state \
is of one stream; {eight:.2f} times the chunks per core-second of one stream, measured in turns with it):

{table(rows([case for case in CASES if case.options != USUAL_OPTIONS]))}

{target_text()}

Seeded weights but for the demo. {NOTE} Each bundle ran in turns with PyTorch eager \
({measured["bundles"][0]["threads"]} threads; bursts of {" and ".join(map(str, bursts()))} steps; `satexport \
measure` prints the definitions into its report): \
quote the ratios, not the milliseconds. {made["cpu"]}, {made["cpu_cores"]} cores, \
{" ".join(made["cpu_flags"])}; {versions}.
{END}"""


def main() -> None:
    """Run what is asked for, then write the table into README."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only the tables, from reports that are there")
    parser.add_argument("--only", choices=[case.name for cases in KINDS.values() for case in cases],
                        metavar="NAME", help="only this case, such as sat-t-2s, and no tables")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--esc10", type=Path, default=ROOT.parent / "shared" / "esc10",
                        help="ESC-10 or ESC-50, for the demo in int8")
    parser.add_argument("--kind", choices=KINDS, help="only these cases")
    parser.add_argument("--minutes", type=float, default=10, help="of stream for the score difference")
    wanted = parser.parse_args()
    for case in (case for kind in KINDS if wanted.kind in (None, kind) for case in KINDS[kind]):
        here = case.calibration != "esc50" or wanted.esc10.is_dir()
        if here and not wanted.table and wanted.only in (None, case.name):
            print(case.name, flush=True)
            run(case, wanted.threads, wanted.minutes, wanted.esc10)
    if not wanted.only:
        readme = ROOT / "README.md"
        before, rest = readme.read_text("utf-8").split(BEGIN)
        try:
            tables = text()
        except FileNotFoundError as error:
            sys.exit(f"No tables: {error.filename} is not there. Run the other kinds first.")
        write_text(readme, before + tables + rest.split(END)[1])


if __name__ == "__main__":
    main()
