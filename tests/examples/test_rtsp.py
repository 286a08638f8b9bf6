"""The example of a camera, with a stand-in for ffmpeg: no test has a camera."""

from __future__ import annotations

import runpy
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests import ROOT
from tests.machine import PATIENCE

FFMPEG = """#!{python}
import pathlib, sys, time
assert sys.argv[sys.argv.index("-i") + 1] == "rtsp://camera/sound"
assert sys.argv[-5:] == ["-ar", "8000", "-ac", "1", "-"]
first, again = (pathlib.Path(__file__).with_name(name) for name in ("first", "again"))
end = time.monotonic() + 20
while first.exists() and not again.exists() and time.monotonic() < end:
    time.sleep(0.01)
first.touch()
sys.stdout.buffer.write(bytes([1, 2]) * 250 + bytes([1]))  # a pipe may be cut within a sample
sys.stdout.buffer.flush()
time.sleep(0.1)
sys.stdout.buffer.write(bytes([2]) + bytes([1, 2]) * 249 + bytes([1]))  # and ends in one
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs scripts of POSIX")
def test_a_camera_that_comes_back_goes_on_after_silence_for_the_time_between(tmp_path: Path) -> None:
    (tmp_path / "ffmpeg").write_text(FFMPEG.format(python=sys.executable))
    (tmp_path / "ffmpeg").chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, ROOT / "examples" / "rtsp.py", "rtsp://camera/sound", "--rate", "8000",
         "--pause", "0.1", "--ffmpeg", tmp_path / "ffmpeg"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stderr

    def read(has: Callable[[int], bool], count: int) -> list[int]:
        """The samples until `count` of a kind have come."""
        samples: list[int] = []
        while sum(map(has, samples)) < count:
            data = process.stdout.read(2)  # type: ignore[union-attr]
            assert data
            samples += np.frombuffer(data, "<i2").tolist()
        return samples

    read(bool, 1)
    heard = read(bool, 499)
    assert set(heard) == {0x0201}
    silence = read(lambda sample: sample == 0, 800)  # 0.1 s, before the camera is there again
    assert set(silence) == {0}
    time.sleep(0.3)
    (tmp_path / "again").touch()
    heard = read(bool, 500)
    assert set(heard) == {0, 0x0201}
    assert heard.count(0) >= 2400  # for the time after the pause
    process.stdout.close()  # as satexport does when it ends
    assert process.wait(PATIENCE) == 0
    assert b"trying again" in process.stderr.read()
    process.stderr.close()


def test_the_time_that_writing_silence_takes_is_filled_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    output_type, clock, sizes = runpy.run_path(str(ROOT / "examples" / "rtsp.py"))["Output"], [0], list[int]()

    class Slow:
        def write(self, data: bytes) -> None:
            sizes.append(len(data))
            clock[0] += 1

        def flush(self) -> None:
            pass

    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: clock[0])
        output = output_type(Slow(), 8000)
        clock[0] = 5
        output.fill()
        output.fill()
    assert sizes == [5 * 8000 * 2, 1 * 8000 * 2]
