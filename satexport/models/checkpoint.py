"""Checkpoints: weights from a file, from the package or from a seed, checked before use.

A file holds a published state dict in float32 or float16. Loading is strict: every entry is
there, has its shape and is finite, where the published loader passes over missing ones in
silence; and an error says what the file looks like instead.
"""

from __future__ import annotations

import hashlib
import math
import re
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from satexport.audio.labels import audioset_labels, read_labels
from satexport.bundle.folder import LABELS, Bundle
from satexport.errors import CheckpointError, DataError, UsageError
from satexport.files import sha256_of
from satexport.models.family import Checkpoint
from satexport.models.published import published
from satexport.models.resave import MARK, SAVE_WEIGHTS, Entry, Weights
from satexport.models.sat.keys import (
    COUNTER,
    FRONT_END,
    HEAD,
    HEAD_BIAS,
    advice,
    expected_shapes,
    shapes_like,
)
from satexport.models.sat.variants import AUDIOSET_CLASSES, Variant
from satexport.models.weightfile import DEMO, find_by_sha256, read_weights, remember
from satexport.terminal import shown

FRONT_END_TOLERANCE: Final = 1e-3  # float16 rounds a filter by up to 5e-4


def load_checkpoint(what: str, variant: Variant, labels: Path | None = None,
                    seed: int = 0) -> Checkpoint:
    """Return the weights of a variant: "published" (fetched where it is not in the cache folder),
    "demo", "random" (by `seed`, 0 or more) or a file.

    `labels` names the classes of a head that is not AudioSet's 527. SAT files tell their
    delay by the width of `time_pos_embed`, but for SAT-S, which has 24 columns at both: it
    loads at either delay, and whoever asks has to know. A ViT's time code is cut or resized
    to the variant's columns. The path of a file is remembered under its hash.

    Raises `CheckpointError` for a file that is missing, damaged, hostile, foreign or of
    another variant, `DataError` for labels that do not fit, `UsageError` for a demo that
    does not exist, `RunError` for a download that fails.
    """
    if what == "random":
        return _random(variant, labels, seed)
    if what == "published":
        with published(variant) as path:
            return load_checkpoint(str(path), variant, labels)
    path = _demo(variant) if what == "demo" else Path(what)
    weights = read_weights(path)
    entries = weights.entries
    classes = _check_shapes(path, weights, variant)
    names = _labels(path, classes, labels)
    shapes = expected_shapes(variant, classes)
    state = {key: _values(path, key, entries[key], shape) for key, shape in shapes.items()}
    dtype = min(entries[key].dtype for key in shapes)  # "float16" sorts first
    sha256 = sha256_of(path)
    if what == "demo":
        return Checkpoint(variant, state, names, "demo", "demo", sha256, dtype)
    remember(sha256, path)
    name = path.name.encode("utf-8", "backslashreplace").decode()
    return Checkpoint(variant, state, names, "file", name, sha256, dtype)


def _demo(variant: Variant) -> Path:
    if variant.name != "sat-t-2s":
        raise UsageError(f"the demo checkpoint is a sat-t at 2 s, not a {variant.model} at "
                         f"{variant.delay} s: pass --model sat-t --delay 2, or --checkpoint "
                         "random for a model of that size.")
    if not DEMO.is_file():
        raise CheckpointError(f"{DEMO}: this installation lacks the demo checkpoint: install "
                              "satexport again, or pass --checkpoint FILE or random.")
    return DEMO


def _labels(path: Path, classes: int, labels: Path | None) -> tuple[str, ...]:
    if labels is None:
        if classes != AUDIOSET_CLASSES:
            raise CheckpointError(
                f"{path}: has {classes} classes, names are known for AudioSet's "
                f"{AUDIOSET_CLASSES}: pass --labels FILE with {classes} lines.")
        return audioset_labels()
    names = read_labels(labels)
    if len(names) != classes:
        raise DataError(f"{labels}: has {len(names)} labels, {path.name} has {classes} classes: "
                        f"expected {classes} lines, in the order of the scores.")
    return names


# Shapes: strict, and helpful about what the file is instead.

def _check_shapes(path: Path, weights: Weights, variant: Variant) -> int:
    """Return the number of classes, or raise `CheckpointError` naming three misfits, the
    count, and what the file looks like."""
    found = {key: entry.shape for key, entry in weights.entries.items() if key != COUNTER}
    expected = shapes_like(found, variant)
    misfits = [f"{key} is {shape}, expected {expected[key]}" if key in expected else
               f"{shown(key)[1:-1]} {shape} is not expected"
               for key, shape in found.items() if expected.get(key) != shape]
    misfits += [f"{key} {shape} is missing" for key, shape in expected.items() if key not in found]
    if misfits:
        more = f"; {len(misfits)} misfits in all" if len(misfits) > 3 else ""
        raise CheckpointError(f"{path}: is no {variant.model} at {variant.delay} s: "
                              f"{'; '.join(misfits[:3])}{more}. {advice(found, variant, weights)}")
    return expected[HEAD][0]


# Values.

def _values(path: Path, key: str, entry: Entry, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Read one entry as contiguous float32 of this shape."""
    if entry.dtype not in ("float32", "float16"):
        raise CheckpointError(
            f"{path}: {key} is {entry.dtype}, expected float32 or float16: save bfloat16 and "
            "float64 again as v.float(); integer (quantised) weights cannot be used, take the "
            "checkpoint they were made from.")
    try:
        stored = entry.read()
    except (RuntimeError, TypeError) as error:  # a tensor without data, or a sparse one
        raise CheckpointError(f"{path}: {key} cannot be read ({error}); expected a dense "
                              f"tensor: {SAVE_WEIGHTS}.") from error
    if key == MARK:
        stored = _fit_columns(stored, shape[-1])
    value = np.ascontiguousarray(stored, dtype=np.float32)
    if not np.isfinite(value).all():
        raise CheckpointError(f"{path}: {key} has NaN or infinite values, expected finite ones: "
                              "training diverged, or a value was too large for float16; "
                              "take an earlier checkpoint, or save it in float32.")
    if key.endswith("running_var") and value.min() < 0:
        raise CheckpointError(f"{path}: {key} has negative values, expected variances: "
                              "the file is damaged; copy or download it again.")
    if key in FRONT_END:
        ours = FRONT_END[key]().astype(np.float32)
        if (apart := float(np.abs(value - ours).max())) > FRONT_END_TOLERANCE:
            raise CheckpointError(
                f"{path}: {key} differs by {apart:.2g} from the front end of the published models "
                "(16 kHz, FFT 512, hop 160, 64 HTK bands up to 8 kHz): the model was trained "
                "with another one, its scores would be wrong. It cannot be exported.")
        return ours
    return value


def _fit_columns(code: NDArray[Any], columns: int) -> NDArray[Any]:
    """Cut or resize a time code [1, d, 1, W] to its columns, as the published loader does:
    the first ones of more, bilinear (half-pixel centres, edges held) from fewer."""
    width = code.shape[-1]
    if width >= columns:
        return code[..., :columns]
    place = np.clip((np.arange(columns) + 0.5) * width / columns - 0.5, 0, width - 1)
    left = place.astype(int)
    right = np.minimum(left + 1, width - 1)
    share = place - left
    fitted: NDArray[Any] = code[..., left] * (1 - share) + code[..., right] * share
    return fitted


# Random weights.

def _random(variant: Variant, labels: Path | None, seed: int) -> Checkpoint:
    names = audioset_labels() if labels is None else read_labels(labels)
    state = {key: FRONT_END[key]().astype(np.float32) if key in FRONT_END
             else _random_weight(key, shape, seed)
             for key, shape in expected_shapes(variant, len(names)).items()}
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(state[key].tobytes())
    return Checkpoint(variant, state, names, "random", f"random (seed {seed})",
                      digest.hexdigest(), "float32")


def _random_weight(key: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Fill one entry from its name and the seed, so that activations stay of moderate size.

    Uniform, of unit variance before scaling: the same bits on every platform.
    """
    rng = np.random.Generator(np.random.PCG64([seed, zlib.crc32(key.encode())]))
    noise: NDArray[np.float64] = math.sqrt(3) * rng.uniform(-1, 1, shape)
    if key.endswith("running_mean"):
        value = -25 + 3 * noise           # dB, as log-mels of real audio have it
    elif key.endswith("running_var"):
        value = 17**2 * (1 + 0.2 * noise)  # dB^2
    elif key == HEAD_BIAS:
        value = -2 + 0.5 * noise          # a tagger's scores: most low, few high
    elif key.endswith(".bias"):
        value = 0.05 * noise
    elif key.endswith(("pos_embed", "cls_token")):
        value = 0.3 * noise
    elif len(shape) == 1:                 # scales of norms
        value = 1 + 0.1 * noise
    else:                                 # [out, in], [out, 1, 16, 16]; q and k twice as large,
        gain = 2.0 if re.search(r"attn\.(to_|qkv)", key) else 1.0  # or attention would be flat
        gain = 0.5 if key == HEAD else gain
        value = gain * noise / math.sqrt(math.prod(shape[1:]))
    return value.astype(np.float32)


def weights_of(bundle: Bundle, checkpoint: str | None = None) -> Checkpoint:
    """Return the weights a bundle was made from: `checkpoint` (a file), or the file that is known
    by the SHA-256 in the bundle. Raises `CheckpointError` where there is none or it is another."""
    contract, wanted = bundle.contract, bundle.contract.checkpoint.sha256
    variant = bundle.variant
    what = checkpoint or (contract.checkpoint.source if contract.checkpoint.source != "file"
                          else find_by_sha256(wanted))
    if what is None:
        raise CheckpointError(f"{bundle.path} was made from {contract.checkpoint.name} (SHA-256 "
                              f"{wanted[:12]}...), which is not known on this machine: pass "
                              "--checkpoint FILE, or use --golden, which needs no weights.")
    found = load_checkpoint(str(what), variant, bundle.path / LABELS)
    if found.sha256 != wanted:
        raise CheckpointError(f"{found.name} has the SHA-256 {found.sha256[:12]}..., {bundle.path} was "
                              f"made from {contract.checkpoint.name} with {wanted[:12]}.... "
                              "Pass that file with --checkpoint, or export again.")
    return found
