"""Small archives, runs over them, and their rows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from satexport.archive.run import TagOptions, TagReport, tag
from satexport.audio.synthetic import synthetic_stream
from satexport.bundle.thresholds import DEFAULT
from satexport.tagging.events import EventOptions
from tests.machine import need

RATE = 44_100
SOON = EventOptions(on=0.45, off=0.4, bridge_seconds=2.0, smooth_chunks=3)  # random weights score near 0.5


def make_archive(folder: Path, real: Path | None = None) -> Path:
    """Recordings of several formats, rates and lengths: two of a minute that can be cut, one that cannot."""
    soundfile = need("soundfile", "audio")
    (folder / "deep").mkdir(parents=True)
    sound = np.asarray(synthetic_stream(70, "calibrate", rate=RATE), np.float32)
    stereo = np.stack([sound, np.roll(sound, 1000)], axis=1)[:61 * RATE + 77]
    soundfile.write(folder / "deep" / "a minute.wav", stereo, RATE)
    for name, seconds, subtype in (("long.ogg", 65, "VORBIS"), ("whole.mp3", 30, None)):
        with soundfile.SoundFile(folder / name, "w", RATE, 1, subtype) as file:
            for begin in range(0, seconds * RATE, RATE):  # libsndfile crashes on long blocks of Vorbis
                file.write(sound[begin:begin + RATE])
    soundfile.write(folder / "short.flac", sound[:5 * RATE:4], RATE // 4)
    if real:
        for clip in sorted((real / "audio").glob("*.ogg"))[:3]:
            shutil.copy(clip, folder)
    return folder


def run(bundle: Path, archive: Path | list[Path], output: Path, **options: Any) -> TagReport:
    """Tag an archive in this process."""
    paths = [str(path) for path in (archive if isinstance(archive, list) else [archive])]
    options.setdefault("events", EventOptions(on=DEFAULT))
    return tag(TagOptions(bundle=bundle, paths=paths, output=output, **options))


def rows(output: Path) -> dict[str, list[Any]]:
    """All rows in an output folder: column -> values."""
    dataset = need("pyarrow.dataset", "batch")
    return dict(dataset.dataset(output).to_table().to_pydict())
