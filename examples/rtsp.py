"""Write the sound of an RTSP camera to standard output, as `satexport run BUNDLE -` takes it.

    python examples/rtsp.py rtsp://user:password@camera/stream | satexport run BUNDLE - --events --json

ffmpeg (5 or newer) must be installed. If the camera goes away, it is tried again, and silence takes the place
of what is missing, so that the times of events stay right. Was tried with a stand-in for ffmpeg, not with a
camera.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from typing import IO, NoReturn

SAMPLE_BYTES = 2
TIMEOUT = 10_000_000  # microseconds that a connection may be silent


class Output:
    """Whole samples on standard output, and silence for the time in which nothing came."""

    def __init__(self, file: IO[bytes], rate: int) -> None:
        self._file, self._rate = file, rate
        self._last = time.monotonic()

    def fill(self) -> None:
        """Write silence for the time since the last samples."""
        now = time.monotonic()
        self._write(bytes(round((now - self._last) * self._rate) * SAMPLE_BYTES))
        self._last = now  # the time that writing took is still to be filled

    def copy(self, source: IO[bytes]) -> None:
        """Copy samples as they come, until their end; half of a sample at the end is dropped."""
        rest, is_first = b"", True
        while data := source.read1(1 << 16):  # type: ignore[attr-defined]
            if is_first:
                self.fill()
                is_first = False
            data = rest + data
            whole = len(data) // SAMPLE_BYTES * SAMPLE_BYTES
            self._write(data[:whole])
            rest = data[whole:]

    def _write(self, samples: bytes) -> None:
        self._file.write(samples)
        self._file.flush()
        self._last = time.monotonic()


def record(command: list[str], output: Output, pause: float) -> NoReturn:
    """Start ffmpeg, again and again, and write what it records."""
    while True:
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout
            try:
                output.copy(process.stdout)
            except BaseException:
                process.terminate()
                raise
        print(f"The camera sends nothing (exit code {process.returncode} of ffmpeg); trying again in "
              f"{pause:g} s.", file=sys.stderr, flush=True)
        time.sleep(pause)
        output.fill()


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the sound of an RTSP camera to standard output.")
    parser.add_argument("url")
    parser.add_argument("--rate", type=int, default=16_000, help="of the bundle's model, in Hz")
    parser.add_argument("--pause", type=float, default=5, help="seconds until the camera is tried again")
    parser.add_argument("--ffmpeg", default="ffmpeg", help="the program")
    arguments = parser.parse_args()
    command = [arguments.ffmpeg, "-nostdin", "-loglevel", "error", "-rtsp_transport", "tcp",
               "-timeout", str(TIMEOUT), "-i", arguments.url, "-vn",  # no picture
               "-f", "s16le", "-ar", str(arguments.rate), "-ac", "1", "-"]
    try:
        record(command, Output(sys.stdout.buffer, arguments.rate), arguments.pause)
    except BrokenPipeError:  # satexport has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python still has
        return 0
    except KeyboardInterrupt:
        return 130
    except FileNotFoundError:
        print(f"Error: there is no program {arguments.ffmpeg}: install ffmpeg, or name it with --ffmpeg.",
              file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
