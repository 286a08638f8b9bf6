"""What `satexport tag` costs: its rate with one and two workers, its overhead, and the memory of a worker.

    python -m benchmarks.archive build/sat-t-2s/cpu-int8 ../shared/esc10/audio --hours 10
    python -m benchmarks.archive ... --write      also write docs/results/archive and docs/archives.md

The clips are repeated until they last as long as asked. "Bare" is what cannot be left out: reading, decoding
and resampling clips of BARE_SECONDS, then running them through the bundle in one thread, all in one process.
Rates count the audio of the recordings; a clip of 5 s takes steps of 6 s with a chunk of 2 s. One worker
decodes in a second thread while it infers, so that it uses more than one core if it may; how the rate grows
with the cores is seen from a worker that may use one core only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from benchmarks.parts import machine_text, write_part
from benchmarks.tables import RESULTS, cpu_name
from satexport.audio.files import read_audio
from satexport.bundle.folder import Bundle, open_bundle
from satexport.errors import DataError, RunError, requires_extra
from satexport.files import write_json
from satexport.origin import origin
from satexport.progress import progress
from satexport.report.markdown import markdown_rows
from satexport.report.table import Table
from satexport.report.terminal import print_table
from satexport.step import FloatArray
from satexport.tagging.stream import StreamBatch
from satexport.tagging.tagger import load

BARE_SECONDS = 600      # of audio, for the bare times
ROUNDS = 3              # of the bare times; the median counts
RUNS = (1, 1), (1, 2), (2, 2)   # workers, and cores that they may use
PAGE = RESULTS.parent / "archives.md"
FOLDER = RESULTS / "archive"
BEGIN, END = "<!-- python -m benchmarks.archive --write -->", "<!-- python -m benchmarks.archive end -->"


def measure_bare(bundle: Bundle, clips: Sequence[Path]) -> dict[str, float]:
    """Return the seconds that decoding with resampling, and inference, take per second of audio."""
    decode, infer = [], []
    with load(bundle.path, 1) as tagger:
        streams = StreamBatch(tagger.step, tagger.contract)
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            audios = [read_audio(clip, tagger.contract.sample_rate) for clip in clips]
            decoded = time.perf_counter()
            _infer(streams, audios)
            seconds = sum(map(len, audios)) / tagger.contract.sample_rate
            infer.append((time.perf_counter() - decoded) / seconds)
            decode.append((decoded - begun) / seconds)
    return {"decode": float(np.median(decode)), "infer": float(np.median(infer))}


def _infer(streams: StreamBatch, audios: Sequence[FloatArray]) -> None:
    for audio in audios:
        streams.reset()
        streams.feed_all(audio[None])
        if streams.waiting:
            streams.flush_all()


@contextmanager
def watch_workers() -> Iterator[dict[int, float]]:
    """Yield the peak resident memory in MB by process number of the worker processes that this one starts."""
    with requires_extra("batch"):
        import psutil
    peaks: dict[int, float] = {}
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.5):
            for child in psutil.Process().children(recursive=True):
                try:
                    if "spawn_main" in " ".join(child.cmdline()):
                        peaks[child.pid] = max(peaks.get(child.pid, 0), child.memory_info().rss / 1e6)
                except psutil.Error:
                    continue

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        is_over.set()
        thread.join()


def measure_workers(bundle: Bundle, archive: Path, workers: int, cores: int) -> dict[str, float]:
    """Tag an archive with a number of workers, by the command, which may use so many of the cores, and return
    what it took. Raises `RunError` if it fails."""
    usable = sorted(os.sched_getaffinity(0))[:cores]
    with tempfile.TemporaryDirectory(prefix="satexport-archive-") as folder, watch_workers() as peaks:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "satexport", "tag", str(bundle.path), str(archive), "-o",
             str(Path(folder) / "tags"), "--workers", str(workers), "--json"],
            stdout=subprocess.PIPE, check=False, preexec_fn=lambda: os.sched_setaffinity(0, usable))
    if done.returncode:
        raise RunError(f"satexport tag ended with exit code {done.returncode}.")
    report = json.loads(done.stdout)
    return {"workers": report["workers"], "cores": len(usable), "hours": report["audio_seconds"] / 3600,
            "start": report["start_seconds"], "work": report["work_seconds"],
            "rate": report["times_real_time"], "worker_mb": max(peaks.values(), default=0.0)}


def make_archive(folder: Path, clips: Sequence[Path], seconds: float, hours: float) -> None:
    """Link the clips, which last `seconds` together, as often as the hours need."""
    for number in range(max(1, round(hours * 3600 / seconds))):
        (folder / f"{number:05}").mkdir()
        for clip in clips:
            (folder / f"{number:05}" / clip.name).symlink_to(clip.absolute())


def measure(bundle: Bundle, clips: Sequence[Path], hours: float) -> dict[str, Any]:
    """Return what docs/results/archive keeps. Raises `DataError` if there are no clips."""
    if not clips:
        raise DataError("the folder has no .ogg, .wav or .flac files; expected clips.")
    machine, rate = origin(), bundle.contract.sample_rate
    lengths = [len(read_audio(clip, rate)) / rate for clip in clips]
    some = clips[:int(np.searchsorted(np.cumsum(lengths), BARE_SECONDS)) + 1]
    with progress("bare", None):
        bare = measure_bare(bundle, some)
    with tempfile.TemporaryDirectory(prefix="satexport-archive-") as folder:
        make_archive(Path(folder), clips, sum(lengths), hours)
        runs = [measure_workers(bundle, Path(folder), workers, cores) for workers, cores in RUNS]
    return {"kind": "archive", "bundle": f"{bundle.contract.variant}/{bundle.target.name}",
            "clips": f"{len(clips)} clips of {np.mean(lengths):.1f} s ({clips[0].suffix})", "bare": bare,
            "runs": runs,
            **{key: machine[key] for key in ("versions", "cpu", "cpu_cores", "cpu_flags", "system")}}


def tables(found: dict[str, Any]) -> list[Table]:
    """Return the table of rates."""
    bare, (one, _, two) = found["bare"], found["runs"]
    both = bare["decode"] + bare["infer"]
    rows = [[what, f"{1 / seconds:.0f}", "", "", ""] for what, seconds in (
        ("bare decoding and resampling", bare["decode"]), ("bare inference", bare["infer"]),
        ("both, in one process", both))]
    rows += [[f"satexport tag, {_count(run['workers'], 'worker')}, {_count(run['cores'], 'core')}, "
              f"{run['hours']:.1f} h", f"{run['rate']:.0f}", f"{run['rate'] * both:.2f}",
              f"{run['start']:.1f}", f"{run['worker_mb']:.0f}"] for run in found["runs"]]
    times = two["rate"] / one["rate"]
    title = f"Two workers on two cores are {times:.2f} times as fast as one on one core"
    return [Table(title=title, rows=rows,
                  head=["", "times real time", "times bare", "started in, s", "peak MB per worker"])]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number > 1)}"


def page_part(found: dict[str, Any]) -> str:
    """Return what docs/archives.md says about a CPU."""
    text = f"{found['bundle']}, {found['clips']}, on {machine_text(found)}{found['note']}:"
    (table,) = tables(found)
    return "\n\n".join((textwrap.fill(text, 118), markdown_rows(table), f"{table.title}."))


def write_page(page: Path = PAGE, folder: Path = FOLDER) -> None:
    """Write the generated part of docs/archives.md. Raises `DataError` if the page has no place for it."""
    write_part(page, BEGIN, END, folder, page_part)


def main() -> None:
    """Measure, and write the page if the command line asks for it."""
    parser = command.Parser("archive", __doc__)
    parser.add_argument("bundle", type=command.folder, metavar="BUNDLE", help="for one stream")
    parser.add_argument("clips", type=command.folder, metavar="FOLDER", help="of recordings")
    parser.add_argument("--hours", type=float, default=10.0, help="of audio; default 10")
    parser.add_argument("--note", default="", metavar="TEXT", help="said on the page, such as what else ran")
    parser.add_argument("--write", action="store_true",
                        help="write docs/results/archive and docs/archives.md")
    options = parser.parse_args()
    clips = sorted(path for path in options.clips.iterdir() if path.suffix in (".ogg", ".wav", ".flac"))
    found = measure(open_bundle(options.bundle), clips, options.hours)
    found["note"] = f", {options.note}" if options.note else ""
    for table in tables(found):
        print_table(table)
    if options.write:
        write_json(FOLDER / f"{cpu_name(origin())}.json", found)
        write_page()


if __name__ == "__main__":
    command.run(main)
