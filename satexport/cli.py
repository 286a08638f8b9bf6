"""The command line. Heavy packages are imported by the command that needs them."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from satexport import __version__
from satexport.console import discard_output, needs, note, print_json, reader_may_leave
from satexport.errors import AudioError, GateError, RunError, SatexportError, UsageError

if TYPE_CHECKING:
    from satexport.backends import FloatArray
    from satexport.stream import Stream, Tagger

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
json_option = click.option("--json", "as_json", is_flag=True,
                           help="Print the machine-readable result on standard output.")
threads_option = click.option("--threads", type=click.IntRange(0, 256), metavar="N",
                              help="Threads of the runtime (0: it decides). Default: the target's.")


@click.group(context_settings=CONTEXT)
@click.version_option(__version__)
def cli() -> None:
    """Make of a streaming audio tagger's checkpoint something a device can run and you can trust.

    \b
    checkpoint -> model -> fold -> graph -> simplify -> bundle -> stream -> parity -> report

    \b
    Examples:
      satexport onnx --model sat-t --delay 2 --checkpoint demo
      satexport parity build/sat-t-2s/onnx
      satexport run build/sat-t-2s/onnx dog.wav

    \b
    Exit codes: 0 fine, 1 a gate failed, 2 wrong use, 3 something is not installed,
    4 bad input, 5 the run failed, 130 interrupted.
    """


@cli.command("onnx")
@click.option("--model", required=True, metavar="NAME", help="sat-t, sat-s, sat-b, vit-t, vit-s or vit-b.")
@click.option("--delay", type=int, default=2, show_default=True, metavar="SECONDS",
              help="Length of a chunk: SAT 1 or 2, ViT 1, 2 or 10.")
@click.option("--checkpoint", default="published", show_default=True, metavar="FILE|published|demo|random",
              help="A .pt or .safetensors file; published: the public one, fetched once; demo: the small "
                   "trained sat-t at 2 s in this package; random: seeded weights, to size a device.")
@click.option("--labels", type=click.Path(path_type=Path), metavar="FILE",
              help="Names of the classes, one per line. Default: AudioSet's 527.")
@click.option("--target", "target_name", default="onnx", show_default=True, metavar="NAME|FILE.toml",
              help="Facts and gates.")
@click.option("--opset", type=click.IntRange(17, 23), default=20, show_default=True, help="ONNX opset.")
@click.option("--simplify/--no-simplify", default=True, show_default=True,
              help="Try onnxsim and keep its graph if it is equal and smaller.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("build"), show_default=True,
              metavar="DIR", help="Folder of the bundles.")
@json_option
def onnx_command(model: str, delay: int, checkpoint: str, labels: Path | None, target_name: str,
                 opset: int, simplify: bool, output: Path, as_json: bool) -> None:
    """Export a checkpoint: a stateful ONNX graph in a bundle, proven against PyTorch.

    \b
    Examples:
      satexport onnx --model sat-b --delay 2
      satexport onnx --model sat-s --delay 1 --checkpoint mine.safetensors --labels mine.txt
      satexport onnx --model vit-t --delay 10 --checkpoint random --output /tmp/sizing
    """
    from satexport.report import print_export
    from satexport.targets import find_target
    from satexport.variants import find_variant

    variant, target = find_variant(model, delay), find_target(target_name)
    if (target.backend, target.precision) != ("onnxruntime", "fp32"):
        raise UsageError(f"target {target.name} wants {target.precision} for {target.backend}; this "
                         "command writes fp32 for onnxruntime.")
    with needs("export"):
        from satexport.checkpoint import load_checkpoint
        from satexport.export import export_onnx, export_report

        export = export_onnx(load_checkpoint(checkpoint, variant, labels), target, output, opset, simplify)
    report = export_report(export)
    with reader_may_leave():
        if as_json:
            print_json({"bundle": str(export.path), **report})
        else:
            print_export(report)
            click.echo(f"Bundle: {export.path}")
    note(report["warning"])
    if variant.model == "sat-s" and checkpoint not in ("published", "random"):
        note(f"SAT-S files of 1 s and of 2 s have the same shapes: make sure that {checkpoint} was "
             f"trained at {delay} s.")


@cli.command("parity")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--golden", is_flag=True, help="Only the golden chunks in the bundle; needs no torch.")
@click.option("--data", default="synthetic", show_default=True, metavar="DIR|CSV|synthetic",
              help="Labelled set: ESC-50 layout, AudioSet-style csv, or csv filename,labels.")
@click.option("--folds", metavar="N,N", help="Folds of a set in ESC-50 layout.")
@click.option("--map", "category_map", type=click.Path(path_type=Path), metavar="CSV",
              help="Which label each category of the set is: category,label.")
@click.option("--checkpoint", metavar="FILE", help="The weights, where they are not known by SHA-256.")
@click.option("--minutes", type=click.FloatRange(0.1, 240), default=10.0, show_default=True,
              help="Length of the stream for differences and drift.")
@click.option("--report", "report_file", type=click.Path(path_type=Path), metavar="FILE",
              help="The JSON report. Default: parity.json in the bundle.")
@click.option("--require-data", is_flag=True, help="A gate that could not be judged fails.")
@click.option("--junit", "junit_file", type=click.Path(path_type=Path), metavar="FILE",
              help="Also write JUnit XML.")
@threads_option
@json_option
def parity_command(bundle: Path, golden: bool, data: str, folds: str | None, category_map: Path | None,
                   checkpoint: str | None, minutes: float, report_file: Path | None,
                   require_data: bool, junit_file: Path | None,
                   threads: int | None, as_json: bool) -> None:
    """Prove a bundle: the file that ships against PyTorch fp32, over a stream and a labelled set.

    \b
    Examples:
      satexport parity build/sat-t-2s/onnx
      satexport parity build/sat-t-2s/onnx --data ESC-50 --folds 4 --junit parity.xml
      satexport parity build/sat-t-2s/onnx --golden        on the device, without torch
    """
    from satexport import load
    from satexport.files import write_json, write_text
    from satexport.parity import parity_report, run_golden, run_parity
    from satexport.report import junit, origin, print_parity

    if golden and (data, folds, category_map, checkpoint) != ("synthetic", None, None, None):
        raise UsageError("--golden needs neither --data, --folds, --map nor --checkpoint: the golden "
                         "chunks and their scores are in the bundle.")
    tagger = load(bundle, threads)
    if golden:
        gates, parts = run_golden(tagger)
    else:
        with needs("export"):
            gates, parts = run_parity(tagger, data, parse_folds(folds), category_map, checkpoint, minutes)
    if require_data:
        gates = [replace(g, status="failed") if g.status == "skipped" else g for g in gates]
    report = parity_report(tagger, gates, parts) | {"threads": threads, "origin": origin()}
    with reader_may_leave():
        if as_json:
            print_json(report)
        else:
            print_parity(report)
    note(report["warning"])
    if junit_file:
        cases = [(g.name, g.status, g.note) for g in gates]
        write_text(junit_file, junit(f"satexport.parity.{tagger.contract.variant}", cases))
    failed = "; ".join(f"{g.name} failed: {g.note}" for g in gates if g.status == "failed")
    try:
        write_json(report_file or bundle / ("parity-golden.json" if golden else "parity.json"), report)
    except RunError as error:  # such as a bundle on a read-only disk
        raise GateError(f"{bundle}: {failed}. Also: {error}") if failed else error from None
    if failed:
        raise GateError(f"{bundle}: {failed}.")


@cli.command("data")
@click.argument("name", type=click.Choice(["esc50"]))
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR",
              help="Where its folder is put. Default: the user's cache folder.")
def data_command(name: str, output: Path | None) -> None:
    """Fetch a labelled set for parity: ESC-50, 2000 clips of 5 s, about 600 MB, not for commercial use.

    \b
    Examples:
      satexport data esc50
      satexport data esc50 --output .
    """
    from satexport.published import fetch_esc50

    click.echo(f"{name} is there: satexport parity BUNDLE --data {fetch_esc50(output, note)}")


@cli.command("run")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("audio", nargs=-1, required=True, metavar="AUDIO...")
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Tags per chunk.")
@threads_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per chunk and line.")
def run_command(bundle: Path, audio: tuple[str, ...], top: int, threads: int | None, as_json: bool) -> None:
    """Stream audio through a bundle and print the top tags of every chunk as they come.

    AUDIO is a file (wav, flac, ogg, mp3; any rate and channels), or - for 16 kHz mono signed 16-bit
    little-endian PCM on standard input. Each file is a stream of its own, from silence.

    \b
    Examples:
      satexport run build/sat-t-2s/onnx dog.wav rain.flac --top 5
      arecord -f S16_LE -r 16000 -t raw | satexport run build/sat-t-2s/onnx -
    """
    from satexport import load
    from satexport.report import RANDOM_WEIGHTS

    tagger = load(bundle, threads)
    if tagger.contract.has_random_weights:
        note(RANDOM_WEIGHTS)
    failure: SatexportError | None = None
    with reader_may_leave():
        for name in audio:  # one bad file does not keep the others from being heard
            try:
                print_tags(tagger, name, top, as_json)
            except SatexportError as error:
                click.echo(f"Error: {error}", err=True)
                failure = error
    if failure:
        sys.exit(failure.exit_code)


def print_tags(tagger: Tagger, name: str, top: int, as_json: bool) -> None:
    """Print the tags of one file or of standard input, chunk by chunk."""
    if not as_json:
        click.echo("standard input" if name == "-" else name)
    for start, end, scores in timed_scores(tagger, name):
        tags = tagger.top(scores, top)
        if as_json:
            line = {"file": name, "start": start, "end": end,
                    "tags": [{"label": label, "score": round(score, 6)} for label, score in tags]}
            click.echo(json.dumps(line))
        else:
            click.echo(f"  {start:7.1f} - {end:.1f} s  "
                       + "  ".join(f"{label} {score:.3f}" for label, score in tags))
        sys.stdout.flush()


def timed_scores(tagger: Tagger, name: str) -> Iterator[tuple[float, float, FloatArray]]:
    """Start and end in seconds and the scores of each chunk; the last one is padded with zeros."""
    from satexport.audio import audio_blocks, pcm_blocks

    stream: Stream = tagger.stream()
    delay, rate, number = tagger.contract.delay, tagger.contract.sample_rate, 0
    for block in pcm_blocks(sys.stdin.buffer) if name == "-" else audio_blocks(name):
        try:
            rows = stream.feed(block)
        except AudioError as error:
            raise AudioError(f"{name}: {error}") from None
        for scores in rows:
            yield number * delay, (number + 1) * delay, scores
            number += 1
    rest = stream.waiting / rate
    for scores in stream.flush():
        yield number * delay, number * delay + rest, scores


def parse_folds(text: str | None) -> list[int] | None:
    """"1,2" to [1, 2]."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--folds {text}: expected numbers such as 4 or 1,2.") from None


def main() -> NoReturn:
    """Run the command line and end the process with the exit code of what happened."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that staged folders vanish
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files and labels may be in any encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except SatexportError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted; what was there before is untouched.", err=True)
        sys.exit(130)
    except Exception as error:  # standard output on a full disk; or a fault of ours
        discard_output()
        if os.environ.get("SATEXPORT_TRACEBACK"):
            raise
        click.echo(f"Error: {type(error).__name__}: {error}. If this looks like a fault of satexport, "
                   "set SATEXPORT_TRACEBACK=1 and report what it prints.", err=True)
        sys.exit(RunError.exit_code)
