"""Tag several microphones with a Triton server that serves a repository of `satexport triton`.

    python examples/triton_client.py --model sat-t-2s kitchen=kitchen.wav garage=garage.pipe

Each source is NAME=PATH: a .wav (16 bit, one channel, the model's sample rate), or anything else that has raw
samples of that kind, such as a named pipe (mkfifo garage.pipe; arecord -t raw -f S16_LE -r 16000 -c 1 >
garage.pipe) or - for standard input. The name is the sequence id in the server, and so must be unique among
all its clients: the server keeps the state of a sequence, not this program. Prints one line of JSON for each
chunk, in the order in which the answers come; "tags" are the best --top.

If the server has forgotten a sequence (a pause longer than max_idle_s of the serving table, a restart), it
begins again from silence; its scores are exact again after as many chunks as the model remembers. If it is
away, a chunk is sent again for up to --patience seconds. Ctrl-C leaves the sequences to that max_idle_s.
Needs tritonclient (pip install 'tritonclient[grpc]', in an environment of its own if numpy 2 is in the way).
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import threading
import time
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SAMPLE_BYTES = 2
PCM_SCALE = 32768
PAUSE = 1.0          # s, until a chunk is sent again
TIMEOUT = 60.0       # s, for an answer
PREFIX = "satexport."  # of the parameters in a model's config
FORGOTTEN = "must specify the START flag"  # in what the server says about a sequence that it does not know


class Failure(Exception):  # noqa: N818, its text is what the user reads
    """Something that ends a microphone or the program."""


@dataclass(frozen=True)
class Model:
    """What a client must know about a model."""

    name: str
    rate: int        # Hz
    window: int      # samples in a request
    hop: int         # new samples in a request
    has_state: bool  # whether the server keeps a state for each sequence


@dataclass(frozen=True)
class Source:
    """A microphone: its name, and where its samples come from."""

    name: str
    path: str


def find_model(client: Any, name: str) -> Model:
    """Ask the server about a model. Raises `Failure` if it does not have one that satexport has written."""
    from tritonclient.grpc import InferenceServerException

    try:
        config = client.get_model_config(name, client_timeout=TIMEOUT).config
    except InferenceServerException as error:
        if is_away(error):
            raise
        raise Failure(f"the server has no model {name!r} that is ready ({error.message()})") from None
    facts = {key: value.string_value for key, value in config.parameters.items()}
    try:
        rate, window, hop = (int(facts[f"{PREFIX}{key}"])
                             for key in ("sample_rate", "window_samples", "hop_samples"))
    except (KeyError, ValueError):
        raise Failure(f"the model {name!r} was not written by `satexport triton`") from None
    if [tensor.name for tensor in config.input] != ["audio"]:
        raise Failure(f"the model {name!r} does not take audio; expected one exported with --input audio")
    return Model(name, rate, window, hop, config.WhichOneof("scheduling_choice") == "sequence_batching")


def is_away(error: Any) -> bool:
    """Whether a server does not answer, or not yet or no more."""
    return any(word in str(error.status()) for word in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"))


def open_wav(path: str, rate: int) -> Callable[[int], bytes]:
    """Open a .wav and return a function that reads at most so many bytes of samples. Raises `Failure` if it
    is none, or of another kind."""
    try:
        file = wave.open(path, "rb")  # noqa: SIM115, the thread of a source ends with the program
    except (wave.Error, EOFError) as error:
        raise Failure(f"{path} is not a .wav with plain samples ({error})") from None
    kind = file.getframerate(), file.getnchannels(), 8 * file.getsampwidth()
    if kind != (rate, 1, 8 * SAMPLE_BYTES):
        raise Failure(f"{path} has {kind[0]} Hz, {kind[1]} channels, {kind[2]} bit; expected {rate} Hz, 1, "
                      f"16. Convert it: ffmpeg -i {path} -ar {rate} -ac 1 -c:a pcm_s16le NEW.wav")
    return lambda size: file.readframes(size // SAMPLE_BYTES)


def open_source(source: Source, rate: int) -> Callable[[int], bytes]:
    """Open a source. A named pipe waits for its writer. Raises `Failure` if it cannot be opened."""
    try:
        if source.path == "-":
            return sys.stdin.buffer.read
        return open_wav(source.path, rate) if source.path.lower().endswith(".wav") else open(
            source.path, "rb").read
    except OSError as error:
        raise Failure(f"{source.path} cannot be read ({error.strerror})") from None


def read_chunks(read: Callable[[int], bytes], samples: int) -> Iterator[tuple[np.ndarray[Any, Any], bool]]:
    """Yield chunks [samples] in [-1, 1], and whether each is the last. The last is filled with silence. To
    know the last, one more sample is read, which comes at once from a microphone."""
    size, ahead = samples * SAMPLE_BYTES, read(SAMPLE_BYTES)
    while ahead:
        data = ahead + read(size - len(ahead))
        ahead = read(SAMPLE_BYTES) if len(data) == size else b""
        whole = data[:len(data) // SAMPLE_BYTES * SAMPLE_BYTES]
        pcm = np.frombuffer(whole.ljust(size, b"\0"), "<i2")
        yield (pcm / PCM_SCALE).astype(np.float32), not ahead


class Microphone(threading.Thread):
    """Sends the chunks of a source, each after the answer to the one before, and puts lines into `lines`: a
    line of JSON, a `Failure`, or None at the end."""

    def __init__(self, client: Any, model: Model, source: Source, arguments: argparse.Namespace,
                 lines: queue.Queue[str | Failure | None]) -> None:
        super().__init__(daemon=True)
        self._client, self._model, self._source, self._lines = client, model, source, lines
        self._top, self._patience = arguments.top, arguments.patience
        self._is_new = True  # to the server

    def run(self) -> None:
        try:
            self._run()
        except Failure as failure:
            self._lines.put(Failure(f"{self._source.name}: {failure}"))
        except Exception as error:  # a thread must not end in silence
            self._lines.put(Failure(f"{self._source.name}: {type(error).__name__}: {error}"))
        self._lines.put(None)

    def _run(self) -> None:
        model, window = self._model, np.zeros(self._model.window, np.float32)
        read = open_source(self._source, model.rate)
        for number, (chunk, is_last) in enumerate(read_chunks(read, model.hop)):
            window = np.concatenate([window[model.hop:], chunk])
            end = (number + 1) * model.hop
            line = {"microphone": self._source.name, "window_start": max(0, end - model.window) / model.rate,
                    "start": (end - model.hop) / model.rate, "end": end / model.rate,
                    "tags": self._ask(window, is_last)}
            self._lines.put(json.dumps(line, ensure_ascii=False))

    def _ask(self, audio: np.ndarray[Any, Any], is_last: bool) -> list[dict[str, Any]]:
        """Send a chunk until the server answers. Raises `Failure` if it does not, or refuses the chunk."""
        from tritonclient.grpc import InferenceServerException

        end = time.monotonic() + self._patience
        while True:
            try:
                return self._send(audio, is_last)
            except InferenceServerException as error:
                is_forgotten = FORGOTTEN in error.message() and not self._is_new
                if not is_forgotten and (not is_away(error) or time.monotonic() > end):
                    raise Failure(error.message()) from None
                self._is_new = True  # a server that was away has lost the state
                why = "has forgotten it" if is_forgotten else "is away"
                print(f"{self._source.name}: the server {why}; it begins again.", file=sys.stderr, flush=True)
                if not is_forgotten:
                    time.sleep(PAUSE)

    def _send(self, audio: np.ndarray[Any, Any], is_last: bool) -> list[dict[str, Any]]:
        from tritonclient.grpc import InferInput, InferRequestedOutput

        tensor = InferInput("audio", [1, len(audio)], "FP32")
        tensor.set_data_from_numpy(audio[None])
        flags = {"sequence_id": self._source.name, "sequence_start": self._is_new,
                 "sequence_end": is_last} if self._model.has_state else {}
        answer = self._client.infer(
            self._model.name, [tensor], client_timeout=TIMEOUT,
            outputs=[InferRequestedOutput("scores", class_count=self._top)], **flags)
        self._is_new = False
        tags = [text.decode().split(":", 2) for text in answer.as_numpy("scores").flat]  # score:number:label
        return [{"label": label, "score": round(float(score), 6)} for score, _, label in tags]


def parse_source(text: str) -> Source:
    """Parse NAME=PATH."""
    name, _, path = text.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=PATH, such as kitchen=kitchen.wav")
    if path != "-" and not os.path.exists(path):
        raise argparse.ArgumentTypeError(f"{path}: no such file")
    if path != "-" and Path(path).is_dir():
        raise argparse.ArgumentTypeError(f"{path}: is a folder; expected a .wav, or raw samples")
    return Source(name, path)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Tag microphones with a Triton server; prints JSON lines.")
    parser.add_argument("sources", nargs="+", type=parse_source, metavar="NAME=PATH")
    parser.add_argument("--model", required=True, help="its name in the server")
    parser.add_argument("--server", default="localhost:8001", metavar="HOST:PORT", help="its gRPC port")
    parser.add_argument("--tls", action="store_true", help="check the server's certificate, and encrypt")
    parser.add_argument("--top", type=int, default=3, metavar="N", help="tags of each chunk")
    parser.add_argument("--patience", type=float, default=60, metavar="SECONDS",
                        help="how long to wait for a server that is away")
    arguments = parser.parse_args()
    if arguments.top < 1:
        parser.error("--top: expected a number from 1")
    for value, what in (("name", "names"), ("path", "sources")):
        found = [getattr(source, value) for source in arguments.sources]
        if twice := sorted({one for one in found if found.count(one) > 1}):
            parser.error(f"two {what} are {twice[0]!r}; expected different ones")
    return arguments


def start(arguments: argparse.Namespace) -> queue.Queue[str | Failure | None]:
    """Start a thread for each microphone; returns the queue of their lines. Raises `Failure` if the server
    does not answer, or a .wav is not of the kind that the model takes."""
    try:
        from tritonclient import grpc
    except ImportError:
        raise Failure("tritonclient is not installed: pip install 'tritonclient[grpc]'") from None
    client = grpc.InferenceServerClient(arguments.server, ssl=arguments.tls)
    try:
        model = find_model(client, arguments.model)
    except grpc.InferenceServerException as error:
        raise Failure(f"no Triton answers at {arguments.server} ({error.message()}): start it, or pass its "
                      "gRPC port by --server") from None
    for source in arguments.sources:
        if source.path.lower().endswith(".wav"):
            open_source(source, model.rate)
    lines: queue.Queue[str | Failure | None] = queue.Queue()
    for source in arguments.sources:
        Microphone(client, model, source, arguments, lines).start()
    return lines


def main() -> int:
    arguments, code = parse(), 0
    try:
        lines = start(arguments)
        running = len(arguments.sources)
        while running:
            line = lines.get()
            if isinstance(line, Failure):
                print(f"Error: {line}", file=sys.stderr, flush=True)
                code = 1
            elif line is None:
                running -= 1
            else:
                print(line, flush=True)
    except Failure as failure:
        print(f"Error: {failure}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
