"""`satexport run`: tag audio with a bundle."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from satexport.commands.console import ignore_closed_pipe
from satexport.commands.options import LIVE, WholeNumber, spinning_option, threads_option
from satexport.commands.run_events import EventFlags, EventPrinter, event_options
from satexport.errors import SatexportError, UsageError
from satexport.terminal import note, say

if TYPE_CHECKING:
    from satexport.step import FloatArray
    from satexport.tagging.embeddings import EmbeddingFile
    from satexport.tagging.sounds import Chunk
    from satexport.tagging.tagger import Tagger

TOP = 3
Printing = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, kw_only=True)
class Sound:
    """What is listened to."""

    name: str
    title: str      # what is printed above its tags
    is_live: bool   # the title is printed at once, and Ctrl-C ends it
    blocks: Callable[[], Iterator[FloatArray]]


@click.command("run")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("audio", nargs=-1, metavar="AUDIO...")
@click.option("--mic", is_flag=False, flag_value="", metavar="[DEVICE]",
              help="Listen to a microphone in place of AUDIO: the default one, or that with this number or "
                   "this part of its name. Put --mic last, because it takes the next word as DEVICE.")
@click.option("--top", type=WholeNumber(1), metavar="N",
              help=f"Number of tags to print per chunk.  [default: {TOP}]")
@click.option("--embeddings", "embeddings_file", type=click.Path(path_type=Path), metavar="FILE.npz",
              help="Also write the embedding of each chunk to this file, if the bundle was exported with "
                   "--embedding.")
@click.option("--events", is_flag=True,
              help="Print when sounds begin and end, in place of the tags of each chunk.")
@event_options
@threads_option(LIVE)
@spinning_option
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per chunk, or per event.")
def run_command(bundle: Path, audio: tuple[str, ...], mic: str | None, top: int | None,
                embeddings_file: Path | None, events: bool, threads: int | None, spinning: bool,
                as_json: bool, **event_flags: Any) -> None:
    """Tag audio with a bundle: print the top tags of each chunk.

    AUDIO is a file (wav, flac, ogg, mp3 or another format that soundfile reads; any sample rate), or - for
    mono signed 16-bit little-endian PCM on standard input at the model's sample rate, which is printed.
    Channels are averaged. Each file is a separate stream that starts from silence, and the tags of a chunk
    are printed as soon as it is scored. A file that comes through a pipe (/dev/stdin) is scored after the
    pipe has ended.

    With --events, sounds are printed when they begin and when they end, by thresholds (docs/events.md).

    The files of --output and --embeddings are written at the end, also if Ctrl-C ends standard input or the
    microphone. That of --embeddings has a row for each chunk of all sounds: the arrays embedding, file_number
    (its place in files), start, end and window_start in seconds; and kind, model and bundle_sha256.

    \b
    Examples:
      satexport run build/sat-t-2s/onnx dog.wav rain.flac --top 5
      satexport run build/sat-t-2s/onnx dog.wav rain.flac --events -o events.csv
      satexport run build/sat-t-2s/onnx-embedding-mean dog.wav rain.flac --embeddings both.npz
      arecord -f S16_LE -r 16000 -t raw | satexport run build/sat-t-2s/onnx -
      satexport run build/sat-t-2s/onnx --mic --events --start now
    """
    from satexport import load
    from satexport.backends.backend import remark_on
    from satexport.bundle.contract import RANDOM_WEIGHTS
    from satexport.tagging.embeddings import EmbeddingFile

    flags = EventFlags(**event_flags)
    check_use(audio, mic, top, events, flags)
    tagger = load(bundle, threads, spinning=spinning)
    if tagger.contract.has_random_weights:
        note(RANDOM_WEIGHTS)
    note(remark_on(tagger.bundle.target))
    sounds = list_sounds(audio, mic, tagger)
    printer: TagPrinter | EventPrinter = TagPrinter(tagger, top or TOP, as_json)
    if events:
        printer = EventPrinter(tagger, flags, [sound.name for sound in sounds],
                               any(sound.is_live for sound in sounds), as_json)
    collected = EmbeddingFile(tagger.contract, tagger.bundle.sha256) if embeddings_file else None
    inputs: list[str | Path] = [*audio, *(file for file in (flags.thresholds, flags.groups) if file)]
    check_files(embeddings_file, flags.output, inputs, bundle)  # before the work
    if failure := run_sounds(tagger, sounds, printer, collected, embeddings_file):
        sys.exit(failure.exit_code)


def run_sounds(tagger: Tagger, sounds: Sequence[Sound], printer: TagPrinter | EventPrinter,
               collected: EmbeddingFile | None, embeddings_file: Path | None) -> SatexportError | None:
    """Print what is in the sounds, and write the files; returns the last error of a sound."""
    def write(has_failed: bool) -> None:
        if collected and embeddings_file:
            write_embeddings(collected, embeddings_file)
        if isinstance(printer, EventPrinter):
            printer.write(has_failed)

    try:
        failure = print_all(tagger, sounds, printer, collected)
    except KeyboardInterrupt:
        if any(sound.is_live for sound in sounds):  # it ends the sound of a microphone
            write(has_failed=False)
        raise
    write(failure is not None)
    return failure


def check_use(audio: Sequence[str], mic: str | None, top: int | None, events: bool,
              flags: EventFlags) -> None:
    """Raise `UsageError` for options that do not fit together."""
    if bool(audio) == (mic is not None):
        raise UsageError("AUDIO: expected files, -, or --mic" + (", not both." if audio else "."))
    if audio.count("-") > 1:
        raise UsageError("AUDIO: - is given more than once; standard input can be read only once. Leave the "
                         "others out.")
    if not events:
        flags.check_unused()
    elif top:
        raise UsageError("--top applies to the tags of chunks; --events prints every label whose score "
                         "reaches its threshold. Leave one of them out.")


def list_sounds(audio: Sequence[str], mic: str | None, tagger: Tagger) -> list[Sound]:
    """The sounds of the command line."""
    from satexport.audio.files import audio_blocks
    from satexport.audio.microphone import microphone_blocks
    from satexport.audio.pcm import pcm_blocks

    contract = tagger.contract
    rate, how = contract.sample_rate, f" ({contract.streaming})" if contract.history_samples else ""
    if mic is not None:
        return [Sound(name="microphone", title=f"microphone{how}", is_live=True,
                      blocks=partial(microphone_blocks, mic, rate))]
    return [Sound(name=name, title=f"standard input, mono 16-bit PCM at {rate} Hz{how}", is_live=True,
                  blocks=lambda: pcm_blocks(sys.stdin.buffer, rate)) if name == "-" else
            Sound(name=name, title=f"{name}{how}", is_live=False, blocks=partial(audio_blocks, name, rate))
            for name in audio]


def check_files(embeddings: Path | None, output: Path | None, inputs: Sequence[str | Path],
                bundle: Path) -> None:
    """Raise `UsageError` if a file to write is one of the inputs or a part of the bundle, or has another
    ending than its format; `RunError` if it cannot be written."""
    from satexport.bundle.places import check_places

    if embeddings and embeddings.suffix != ".npz" and str(embeddings) != "-":
        raise UsageError(f"--embeddings {embeddings}: expected a file name that ends in .npz.")
    files = [("embeddings", embeddings), ("output", output)]
    for option, file in files:
        if file and any(os.path.realpath(name) == os.path.realpath(file) for name in inputs):
            raise UsageError(f"--{option} {file}: is one of the files that are read, and would be lost. "
                             "Choose another name.")
    check_places([(option, file) for option, file in files if file], [bundle])


def write_embeddings(collected: EmbeddingFile, file: Path) -> None:
    """Write the rows and say so. Without any, an earlier file stays."""
    if collected.chunks:
        collected.write(file)
        note(f"Embeddings of {collected.chunks} chunks: {file}")
    else:
        note(f"No chunk was scored: {file} was not written.")


def print_all(tagger: Tagger, sounds: Sequence[Sound], printer: TagPrinter | EventPrinter,
              collected: EmbeddingFile | None) -> SatexportError | None:
    """Print the tags or events of all sounds. A bad file does not stop the others; returns the last error."""
    failure: SatexportError | None = None
    # a reader that closes the pipe ends the command, unless a file is to be written
    printing: Printing = ignore_closed_pipe if collected or printer.has_file else nullcontext
    with ignore_closed_pipe():
        for sound in sounds:
            try:
                print_sound(tagger, sound, printer, collected, printing)
            except SatexportError as error:
                note(f"Error: {error.message}", *error.lines)
                failure = error
    return failure


def print_sound(tagger: Tagger, sound: Sound, printer: TagPrinter | EventPrinter,
                collected: EmbeddingFile | None, printing: Printing) -> None:
    """Print the title of a sound, at once if it is live, otherwise with its first scores; then what is heard
    in it, chunk by chunk. Also collect the embeddings."""
    from satexport.tagging.sounds import score_blocks

    if collected:
        collected.begin(sound.name)
    has_begun = sound.is_live
    if has_begun:
        with printing():
            printer.begin(sound.name, sound.title)
    try:
        for chunk in score_blocks(tagger, sound.blocks(), sound.name):
            if collected and chunk.outputs.embedding is not None:
                collected.add(chunk.start, chunk.end, chunk.window_start, chunk.outputs.embedding)
            if not has_begun:
                with printing():
                    printer.begin(sound.name, sound.title)
                has_begun = True
            printer.add(chunk, printing)
    finally:
        if has_begun:  # also if an error or Ctrl-C ends it
            printer.end(printing)


class TagPrinter:
    """Prints the best tags of each chunk."""

    has_file = False

    def __init__(self, tagger: Tagger, top: int, as_json: bool) -> None:
        self._tagger, self._top, self._as_json = tagger, top, as_json
        self._name = ""

    def begin(self, name: str, title: str) -> None:
        self._name = name
        if not self._as_json:
            say(title)
            sys.stdout.flush()

    def add(self, chunk: Chunk, printing: Printing) -> None:
        with printing():
            self._print(chunk)

    def end(self, printing: Printing) -> None:
        pass

    def _print(self, chunk: Chunk) -> None:
        tags = self._tagger.top(chunk.outputs.scores, self._top)
        if self._as_json:
            line = {"file": self._name, "window_start": chunk.window_start, "start": chunk.start,
                    "end": chunk.end,
                    "tags": [{"label": label, "score": round(score, 6)} for label, score in tags]}
            click.echo(json.dumps(line))
        else:
            say(f"  {chunk.start:7.1f} - {_end(chunk.start, chunk.end)} s  "
                + "  ".join(f"{label} {score:.3f}" for label, score in tags))
        sys.stdout.flush()


def _end(start: float, end: float) -> str:
    """Format the end of a chunk with enough digits to differ from its start."""
    return next((text for digits in range(1, 6) if float(text := f"{end:.{digits}f}") > start), f"{end:.6f}")
