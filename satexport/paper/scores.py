"""Figure 2 of the SAT paper: the scores of chosen labels over a long recording by several bundles, those
with a cache also reset at every chunk."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from satexport.audio.files import audio_blocks
from satexport.audio.scenes import SCENES, SECONDS, scene, scene_events
from satexport.bundle.folder import Bundle, open_bundle
from satexport.errors import UsageError
from satexport.progress import progress
from satexport.report.paper_records import ScoreCurve, ScoresReport
from satexport.step import FloatArray
from satexport.tagging.stream import StreamBatch
from satexport.tagging.tagger import Tagger, load

MADE = "scenes"       # the recording that is synthesized, with its events
Events = Mapping[str, tuple[tuple[float, float], ...]]   # by label, begin and end of each sound, s


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A recording, and what is to be heard in it, if that is known."""

    name: str
    blocks: Callable[[int], Iterator[FloatArray]]   # [samples] each, at a rate in Hz
    events: Events | None


def trace_scores(paths: Sequence[Path], recording: str, words: str,
                 threads: int | None = None) -> ScoresReport:
    """Return the scores of labels, which `words` lists with commas between them, over a recording, a sound
    file or `MADE`, by each bundle, and for a bundle with a cache also those of its chunks one by one, each
    with the cache after silence.

    Raises `UsageError` for a label that a bundle does not have and for a bundle of several streams,
    `AudioError` if the recording cannot be read, and what `load` raises."""
    bundles = [open_bundle(path) for path in paths]
    labels = split_labels(words, {label for bundle in bundles for label in bundle.labels})
    for bundle in bundles:
        _check(bundle, labels)
    sound = _scenes() if recording == MADE else Recording(
        name=Path(recording).name, blocks=partial(audio_blocks, recording), events=None)
    curves, seconds = list[ScoreCurve](), 0.0
    for bundle, name in zip(bundles, _name_bundles(bundles), strict=True):
        with load(bundle.path, threads) as tagger:
            for is_reset in (False, True) if bundle.contract.cache_in else (False,):
                curve, seconds = _trace(tagger, name, sound, labels, is_reset)
                curves.append(curve)
    events = None if sound.events is None else {label: sound.events.get(label, ()) for label in labels}
    return ScoresReport(recording=sound.name, seconds=seconds, labels=tuple(labels), curves=tuple(curves),
                        events=events)


def split_labels(text: str, known: Collection[str]) -> list[str]:
    """Split "Siren, Telephone dialing, DTMF" at its commas into the longest known labels, some of which
    contain commas; a part that begins no known label stands for itself. Raises `UsageError` if a part is
    empty."""
    parts, found = [part.strip() for part in text.split(",")], list[str]()
    if not all(parts):
        raise UsageError(f"--labels {text!r}: a label is empty; expected labels with commas between them.")
    while parts:
        end = next((end for end in range(len(parts), 0, -1) if ", ".join(parts[:end]) in known), 1)
        found.append(", ".join(parts[:end]))
        parts = parts[end:]
    return list(dict.fromkeys(found))


def _check(bundle: Bundle, labels: Sequence[str]) -> None:
    if bundle.contract.options.streams != 1 or bundle.contract.options.input != "audio":
        raise UsageError(f"{bundle.path} is not for one stream of audio; expected a bundle that was exported "
                         "without --streams and --input.")
    if unknown := [label for label in labels if label not in bundle.labels]:
        raise UsageError(f"--labels {unknown[0]}: {bundle.path} has no such label. Its labels are in "
                         f"{bundle.path / 'labels.txt'}.")


def _name_bundles(bundles: Sequence[Bundle]) -> list[str]:
    names = [f"{bundle.contract.variant} / {bundle.target.name}" for bundle in bundles]
    return [name if names.count(name) == 1 else f"{name} {bundle.path}"
            for name, bundle in zip(names, bundles, strict=True)]


def _scenes() -> Recording:
    """Return the synthetic scenes that gate, one after the other."""
    events: dict[str, tuple[tuple[float, float], ...]] = {}
    for number in range(SCENES):
        for event in scene_events("evaluate", number, SECONDS):
            span = (number * SECONDS + event.onset, number * SECONDS + event.offset)
            events[event.label] = (*events.get(event.label, ()), span)
    return Recording(name="synthetic scenes", events=events, blocks=lambda rate: (
        scene("evaluate", number, rate=rate)[0] for number in range(SCENES)))


def _trace(tagger: Tagger, name: str, sound: Recording, labels: Sequence[str],
           is_reset: bool) -> tuple[ScoreCurve, float]:
    """Return the scores of labels in each chunk of a recording, and the seconds that it lasts."""
    contract = tagger.contract
    streams = StreamBatch(tagger.step, contract, 1)
    columns = [tagger.labels.index(label) for label in labels]
    name = f"{name}, reset at every chunk" if is_reset else name
    rows, samples = list[FloatArray](), 0
    with progress(name, None) as advance:
        for chunk in _chunks(sound.blocks(contract.sample_rate), contract.hop_samples):
            samples += len(chunk)
            if is_reset:
                streams.reset()
            padded = np.pad(chunk, (0, contract.hop_samples - len(chunk)))
            rows += [scores[0, columns] for scores in streams.feed_all(padded[None]).scores]
            advance()
    return ScoreCurve(
        name=name, variant=contract.variant, hop_seconds=contract.hop_seconds, is_reset=is_reset,
        bundle_sha256=tagger.bundle.sha256, checkpoint=contract.checkpoint,
        scores={label: tuple(float(row[number]) for row in rows) for number, label in enumerate(labels)},
    ), samples / contract.sample_rate


def _chunks(blocks: Iterator[FloatArray], size: int) -> Iterator[FloatArray]:
    """Cut blocks [samples] into chunks of `size` samples; the last one may be shorter."""
    waiting = np.empty(0, np.float32)
    for block in blocks:
        waiting = np.concatenate((waiting, block))
        whole = len(waiting) // size * size
        yield from waiting[:whole].reshape(-1, size)
        waiting = waiting[whole:]
    if len(waiting):
        yield waiting
