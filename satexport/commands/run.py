"""`satexport run`: tag audio with a bundle."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from satexport.commands.console import ignore_closed_pipe
from satexport.commands.options import LIVE, WholeNumber, spinning_option, threads_option
from satexport.errors import AudioError, SatexportError, UsageError
from satexport.terminal import note, say

if TYPE_CHECKING:
    from satexport.step import Outputs
    from satexport.tagging.embeddings import EmbeddingFile
    from satexport.tagging.stream import Stream
    from satexport.tagging.tagger import Tagger


@click.command("run")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("audio", nargs=-1, required=True, metavar="AUDIO...")
@click.option("--top", type=WholeNumber(1), default=3, show_default=True,
              help="Number of tags to print per chunk.")
@click.option("--embeddings", "embeddings_file", type=click.Path(path_type=Path), metavar="FILE.npz",
              help="Also write the embedding of each chunk to this file, if the bundle was exported with "
                   "--embedding.")
@threads_option(LIVE)
@spinning_option
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per chunk.")
def run_command(bundle: Path, audio: tuple[str, ...], top: int, embeddings_file: Path | None,
                threads: int | None, spinning: bool, as_json: bool) -> None:
    """Tag audio with a bundle: print the top tags of each chunk.

    AUDIO is a file (wav, flac, ogg, mp3 or another format that soundfile reads; any sample rate), or - for
    mono signed 16-bit little-endian PCM on standard input at the model's sample rate, which is printed.
    Channels are averaged. Each file is a separate stream that starts from silence, and the tags of a chunk
    are printed as soon as it is scored. A file that comes through a pipe (/dev/stdin) is scored after the
    pipe has ended.

    The file of --embeddings is written at the end, also if Ctrl-C ends standard input. It has a row for each
    chunk of all sounds: the arrays embedding, file_number (its place in files), start, end and window_start
    in seconds; and kind, model and bundle_sha256.

    \b
    Examples:
      satexport run build/sat-t-2s/onnx dog.wav rain.flac --top 5
      satexport run build/sat-t-2s/onnx-embedding-mean dog.wav rain.flac --embeddings both.npz
      arecord -f S16_LE -r 16000 -t raw | satexport run build/sat-t-2s/onnx -
    """
    from satexport import load
    from satexport.bundle.contract import RANDOM_WEIGHTS
    from satexport.tagging.embeddings import EmbeddingFile

    if audio.count("-") > 1:
        raise UsageError("AUDIO: - is given more than once; standard input can be read only once. Leave the "
                         "others out.")
    tagger = load(bundle, threads, spinning=spinning)
    if tagger.contract.has_random_weights:
        note(RANDOM_WEIGHTS)
    collected = None
    if embeddings_file:
        collected = EmbeddingFile(tagger.contract, tagger.bundle.sha256)
        check_embeddings_file(embeddings_file, audio, bundle)  # before the work
    try:
        failure = print_all(tagger, audio, top, as_json, collected)
    except KeyboardInterrupt:
        if collected and embeddings_file and "-" in audio:  # it ends the sound of a microphone
            write_embeddings(collected, embeddings_file)
        raise
    if collected and embeddings_file:
        write_embeddings(collected, embeddings_file)
    if failure:
        sys.exit(failure.exit_code)


def check_embeddings_file(file: Path, audio: Sequence[str], bundle: Path) -> None:
    """Raise `UsageError` if the file of --embeddings is no .npz file, or would replace a sound or a part of
    the bundle; `RunError` if it cannot be written."""
    from satexport.bundle.places import check_places

    if file.suffix != ".npz" and str(file) != "-":
        raise UsageError(f"--embeddings {file}: expected a file name that ends in .npz.")
    if any(os.path.realpath(name) == os.path.realpath(file) for name in audio):
        raise UsageError(f"--embeddings {file}: is one of the sounds, which would be lost. Choose another "
                         "name.")
    check_places([("embeddings", file)], [bundle])


def write_embeddings(collected: EmbeddingFile, file: Path) -> None:
    """Write the rows and say so. Without any, an earlier file stays."""
    if collected.chunks:
        collected.write(file)
        note(f"Embeddings of {collected.chunks} chunks: {file}")
    else:
        note(f"No chunk was scored: {file} was not written.")


def print_all(tagger: Tagger, names: Sequence[str], top: int, as_json: bool,
              collected: EmbeddingFile | None) -> SatexportError | None:
    """Print the tags of all sounds. A bad file does not stop the others; returns the last error."""
    failure: SatexportError | None = None
    with ignore_closed_pipe():
        for name in names:
            try:
                print_tags(tagger, name, top, as_json, collected)
            except SatexportError as error:
                note(f"Error: {error.message}", *error.lines)
                failure = error
    return failure


def print_tags(tagger: Tagger, name: str, top: int, as_json: bool, collected: EmbeddingFile | None) -> None:
    """Print the name of one file with its first scores, or what is read from standard input at once; then
    the tags, chunk by chunk. Also collect the embeddings: meanwhile a reader that closes the pipe does not
    stop the work."""
    contract = tagger.contract
    printing = ignore_closed_pipe if collected else nullcontext
    if collected:
        collected.begin(name)
    source = f"standard input, mono 16-bit PCM at {contract.sample_rate} Hz" if name == "-" else name
    head = f"{source} ({contract.streaming})" if contract.history_samples else source
    with printing():
        if name == "-" and not as_json:
            say(head)
    for start, end, outputs in timed_outputs(tagger, name):
        window = max(0.0, start + contract.hop_seconds - contract.window_seconds)
        if collected and outputs.embedding is not None:
            collected.add(start, end, window, outputs.embedding)
        with printing():
            if start == 0 and name != "-" and not as_json:
                say(head)
            _print_chunk(name, window, start, end, tagger.top(outputs.scores, top), as_json)


def _print_chunk(name: str, window: float, start: float, end: float, tags: list[tuple[str, float]],
                 as_json: bool) -> None:
    if as_json:
        line = {"file": name, "window_start": window, "start": start, "end": end,
                "tags": [{"label": label, "score": round(score, 6)} for label, score in tags]}
        click.echo(json.dumps(line))
    else:
        say(f"  {start:7.1f} - {_end(start, end)} s  "
            + "  ".join(f"{label} {score:.3f}" for label, score in tags))
    sys.stdout.flush()


def _end(start: float, end: float) -> str:
    """Format the end of a chunk with enough digits to differ from its start."""
    return next((text for digits in range(1, 6) if float(text := f"{end:.{digits}f}") > start), f"{end:.6f}")


def timed_outputs(tagger: Tagger, name: str) -> Iterator[tuple[float, float, Outputs]]:
    """Yield start and end in seconds and the outputs, scores [classes] and embedding [size], of each chunk;
    the last chunk is padded with zeros."""
    from satexport.audio.files import audio_blocks, pcm_blocks

    stream: Stream = tagger.stream()
    hop, rate, number = tagger.contract.hop_seconds, tagger.contract.sample_rate, 0
    for block in pcm_blocks(sys.stdin.buffer, rate) if name == "-" else audio_blocks(name, rate):
        try:
            chunks = stream.feed_all(block).split()
        except AudioError as error:
            raise AudioError(f"{name}: {error}") from None
        for outputs in chunks:
            yield number * hop, (number + 1) * hop, outputs
            number += 1
    rest = stream.waiting / rate
    for outputs in stream.flush_all().split():
        yield number * hop, number * hop + rest, outputs
