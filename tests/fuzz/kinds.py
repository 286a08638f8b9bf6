"""The kinds of files that satexport reads: how valid ones (from `valid`) are mutated, and how they are used.

A use returns if the file was accepted with a correct result, raises one of satexport's errors if it was
refused, and `WrongError` if it was accepted but should have been refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from tests.fuzz import mutations
from tests.fuzz.valid import RATE


class WrongError(Exception):
    """A file was accepted that should have been refused, or its result is wrong."""


@dataclass(frozen=True)
class Doubtful:
    """A mutated file or bundle folder."""

    path: Path
    must_be_refused: bool = False


@dataclass(frozen=True)
class Kind:
    """A kind of input; `share` is its percentage of all inputs."""

    share: int
    draw: Callable[[Random, Path, Path], Doubtful]  # from the folder of valid files into an empty folder
    use: Callable[[Path, Path], None]  # the input, the folder of valid files
    command: Callable[[Path, Path, Path], list[str]]  # the input, valid files, an output folder
    by_stdin: bool = False  # the command reads it there


def require(holds: bool, what: str) -> None:
    """Raise `WrongError` unless a condition holds."""
    if not holds:
        raise WrongError(what)


def _choose(random: Random, folder: Path) -> Path:
    return random.choice(sorted(folder.iterdir()))


def _changed_file(
    part: str, change: Callable[[Random, bytes], bytes]
) -> Callable[[Random, Path, Path], Doubtful]:
    """Draw one of the valid files of a part and change it."""

    def draw(random: Random, valid: Path, place: Path) -> Doubtful:
        source = _choose(random, valid / part)
        path = place / source.name
        path.write_bytes(change(random, source.read_bytes()))
        return Doubtful(path)

    return draw


# Audio.


def _draw_audio(random: Random, valid: Path, place: Path) -> Doubtful:
    source = _choose(random, valid / "audio")
    name = (
        source.name
        if random.random() < 0.9
        else f"sound.{random.choice(('wav', 'raw', 'mp3', 'txt', 'flac'))}"
    )
    (place / name).write_bytes(mutations.change_bytes(random, source.read_bytes()))
    return Doubtful(place / name)


def _hear(path: Path, _valid: Path) -> None:
    from satexport.audio.files import audio_blocks

    for block in audio_blocks(path, RATE):
        require(block.dtype == np.float32 and block.ndim == 1 and bool(np.isfinite(block).all()), "no audio")


def _hear_pcm(path: Path, _valid: Path) -> None:
    from satexport.audio.pcm import pcm_blocks

    with path.open("rb") as file:
        for block in pcm_blocks(file, RATE):
            require(bool(np.abs(block).max() <= 1), "PCM beyond full scale")


# Checkpoints.


def _draw_checkpoint(random: Random, valid: Path, place: Path) -> Doubtful:
    source = _choose(random, valid / "checkpoint")
    change = mutations.change_zip if source.suffix == ".pt" else mutations.change_safetensors
    content = change(random, source.read_bytes())
    if random.random() < 0.05:
        content = mutations.hostile_pickle(random)
    name = random.choice((source.name, source.name, "weights.bin", "weights.pt"))
    (place / name).write_bytes(content)
    return Doubtful(place / name)


def _load_checkpoint(path: Path, _valid: Path) -> None:
    from satexport.models.checkpoint import load_checkpoint
    from satexport.models.sat.keys import expected_shapes
    from satexport.models.sat.variants import VARIANTS

    variant = VARIANTS["sat-t", 2]
    found = load_checkpoint(str(path), variant)
    require(
        {key: value.shape for key, value in found.state.items()} == expected_shapes(variant, found.classes),
        "shapes that are not the model's",
    )
    require(all(np.isfinite(value).all() for value in found.state.values()), "weights that are no numbers")


# Bundles.


def _draw_bundle(random: Random, valid: Path, place: Path) -> Doubtful:
    """Modify a part; in half of the cases with valid hashes, as an attacker would."""
    bundle = Path(shutil.copytree(valid / "bundle" / "onnx", place / "onnx"))
    manifest = json.loads((bundle / "bundle.json").read_bytes())
    part = bundle / random.choice(sorted([*manifest["files"], "bundle.json", "bundle.json"]))
    before = part.read_bytes()
    choice = random.random()
    if choice < 0.05:
        part.unlink()
    elif choice < 0.1:
        part.unlink()
        part.symlink_to(random.choice(("/dev/zero", "/etc/passwd", "missing", ".", "../onnx")))
    elif choice < 0.15:
        (bundle / random.choice(("notes.txt", "bundle.json.again", "Model.onnx"))).write_bytes(b"mine")
    elif part.name == "bundle.json":
        part.write_bytes(mutations.change_json(random, before))
    else:
        change = {".npy": mutations.change_npy, ".npz": mutations.change_zip, ".txt": mutations.change_text}
        part.write_bytes(change.get(part.suffix, mutations.change_bytes)(random, before))
    sealed = choice >= 0.15 and random.random() < 0.5 and _seal(bundle)
    return Doubtful(bundle, must_be_refused=not sealed and (choice < 0.15 or part.read_bytes() != before))


def _seal(bundle: Path) -> bool:
    """Update hashes, sizes and seal; False if bundle.json no longer has these keys."""
    from satexport.files import json_text

    try:
        manifest = json.loads((bundle / "bundle.json").read_bytes())
        for name, facts in manifest["files"].items():
            content = (bundle / name).read_bytes()
            facts.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        manifest["seal"] = ""
        manifest["seal"] = hashlib.sha256(json_text(manifest).encode()).hexdigest()
        (bundle / "bundle.json").write_text(json_text(manifest), encoding="utf-8")
    except (KeyError, TypeError, ValueError, AttributeError, OSError, RecursionError):
        return False
    return True


def _run_bundle(path: Path, _valid: Path) -> None:
    import satexport
    from satexport.parity.golden import run_golden

    tagger = satexport.load(path, threads=1)
    scores = tagger.stream().feed(np.zeros(tagger.contract.hop_samples, np.float32))
    require(scores.shape == (1, len(tagger.labels)), "scores of another shape")
    run_golden(tagger)


# Tables and TOMLs.


def _read_target(path: Path, _valid: Path) -> None:
    from satexport.files import json_text
    from satexport.targets import find_target

    json_text(find_target(str(path)).to_dict())


def _draw_beside_clips(part: str) -> Callable[[Random, Path, Path], Doubtful]:
    """A mutated table or manifest in a folder of clips."""
    draw = _changed_file(part, mutations.change_text)

    def beside(random: Random, valid: Path, place: Path) -> Doubtful:
        for clip in (valid / "clips").iterdir():
            os.link(clip, place / clip.name)
        return draw(random, valid, place)

    return beside


def _read_calibration(path: Path, _valid: Path) -> None:
    from satexport.quantize.calibrate import read_clips
    from satexport.quantize.calibration_set import calibration_clips, find_calibration

    chosen = find_calibration(str(path))
    if chosen.source == "folder":
        read_clips(calibration_clips(chosen, None), RATE)


def _read_labels(path: Path, _valid: Path) -> None:
    from satexport.audio.labels import read_labels
    from satexport.terminal import printable

    labels = read_labels(path)
    require(
        len(set(labels)) == len(labels) > 0 and all(label == printable(label) != "" for label in labels),
        "labels that are empty, twice there or cannot be printed",
    )


def _read_set(path: Path, _valid: Path) -> None:
    from satexport.audio.datasets import load_set
    from satexport.audio.labels import audioset_labels
    from satexport.parity.event_metrics import true_events

    found = load_set(path, audioset_labels())
    require(bool(found.truth(audioset_labels()).any()), "no clip has a label")
    if found.has_events:
        true_events(found.clips, audioset_labels())
    for clip in found.clips[:2]:
        clip.read(RATE)


def _run(path: Path, valid: Path, _out: Path) -> list[str]:
    return ["run", str(valid / "bundle" / "onnx"), str(path)]


def _run_stdin(_path: Path, valid: Path, _out: Path) -> list[str]:
    return ["run", str(valid / "bundle" / "onnx"), "-"]


def _export(path: Path, _valid: Path, out: Path) -> list[str]:
    return ["onnx", "--model", "sat-t", "--checkpoint", str(path), "--no-simplify", "--output", str(out)]


def _compile(option: str) -> Callable[[Path, Path, Path], list[str]]:
    def command(path: Path, valid: Path, out: Path) -> list[str]:
        return ["cpu", option, str(path), "--from", str(valid / "bundle" / "onnx"), "--no-measure",
                "--minutes", "0.1", "--data", str(valid / "few.csv"), "--output", str(out)]

    return command


KINDS = {
    "audio": Kind(30, _draw_audio, _hear, _run),
    "standard input": Kind(
        5, _changed_file("audio", mutations.change_bytes), _hear_pcm, _run_stdin, by_stdin=True
    ),
    "checkpoint": Kind(15, _draw_checkpoint, _load_checkpoint, _export),
    "bundle": Kind(
        15,
        _draw_bundle,
        _run_bundle,
        lambda path, valid, _: ["run", str(path), str(valid / "audio" / "sound.wav")],
    ),
    "target": Kind(10, _changed_file("target", mutations.change_text), _read_target, _compile("--target")),
    "calibration": Kind(5, _draw_beside_clips("calibration"), _read_calibration, _compile("--calibration")),
    "labels": Kind(
        10,
        _changed_file("labels", mutations.change_text),
        _read_labels,
        lambda path, valid, out: [
            *_export(valid / "checkpoint" / "demo.pt", valid, out),
            "--labels",
            str(path),
        ],
    ),
    "set": Kind(
        10,
        _draw_beside_clips("set"),
        _read_set,
        lambda path, valid, out: [
            "parity",
            str(valid / "bundle" / "onnx"),
            "--minutes",
            "0.1",
            "--data",
            str(path),
            "--report",
            str(out / "parity.json"),
        ],
    ),
}
