"""Checkpoints: weights from a file, from the Hub, from the package or from a seed, checked before use.

A file holds a published state dict in float32 or float16. Loading is strict: every entry must exist, have the
right shape and be finite (published loaders silently skip missing entries). An error says which model the
file looks like instead. The model's family defines what is expected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from satexport.audio.labels import audioset_labels, read_labels
from satexport.bundle.folder import LABELS, Bundle
from satexport.errors import CheckpointError, DataError, UsageError
from satexport.files import sha256_of
from satexport.hub import is_hub_name
from satexport.models.families import (
    FAMILIES,
    all_variants,
    find_contract_variant,
    find_family,
    find_variant,
    hub_types,
    identify,
    marks,
    models_of_file,
    named_variant,
    published_files,
    refusal,
    resembling,
)
from satexport.models.family import Checkpoint, Published, Shapes, StateFile, V, Variant
from satexport.models.hub import fetch_from_hub
from satexport.models.mismatch import advise_variant
from satexport.models.published import fetch_published
from satexport.models.weightfile import find_by_sha256, read_weights, remember
from satexport.terminal import shown

WORDS = ("published", "demo", "random")  # that stand for a checkpoint in place of a file
PUBLISHED = "published:"                 # before the name of one of several public files


def load_checkpoint(what: str, variant: V, labels: Path | None = None, seed: int = 0) -> Checkpoint[V]:
    """Return the weights of a variant: "published" (the recommended public file, downloaded if it is not in
    the cache folder), "published:FILE" (another public file of the variant), "demo", "random" (from `seed`,
    0 or more), a file, or hub:OWNER/REPO[/FILE][@REVISION], a file on the Hub. The variant of the result is
    `variant`, with what its model leaves to the file, such as the stride of an AST.

    `labels` is a file that names the classes, for a head that does not have AudioSet's. The path of a
    checkpoint file is remembered by the file's SHA-256, for `find_weights`.

    Raises `CheckpointError` if the file is missing, damaged, hostile, of an unknown model or of another
    variant, `DataError` if the labels do not fit the classes, `UsageError` if the variant has no demo or no
    published file, `RunError` if a download fails, and for a file on the Hub also what `fetch_from_hub`
    raises.
    """
    if what == "random":
        return _random(variant, labels, seed)
    if is_published(what):
        with fetch_published(_choose_published(what, variant)) as path:
            return _read(path, variant, labels, is_sure=True)
    if what == "demo":
        return _read(_find_demo(variant), variant, labels, source="demo", name="demo", is_sure=True)
    if is_hub_name(what):
        with fetch_from_hub(what, hub_types(variant)) as weights:
            return _read(weights.path, variant, labels, source="hub", name=weights.name,
                         is_sure=bool(weights.types))
    return _read(Path(what), variant, labels)


def recognize_variant(what: str, delay: int | None = None, window: int | None = None) -> Variant:
    """Return the variant that the shapes in a file of weights, or in one on the Hub, and the config of its
    repository match, at a delay of `delay` seconds. None: the delay that the shapes show, or the default one
    if they show none. `window` is that of `find_variant`.

    Raises `CheckpointError` if the file cannot be read or matches no model, `UsageError` if it matches
    several, and for a file on the Hub also what `fetch_from_hub` raises.
    """
    if is_hub_name(what):
        with fetch_from_hub(what) as weights:
            alike = [variant for variant in _find_alike(weights.path)
                     if not weights.types or weights.types & hub_types(variant)]
    else:
        alike = _find_alike(Path(what))
    models = list(dict.fromkeys(variant.model for variant in alike))
    if not models:
        raise CheckpointError(f"{what}: its shapes match no known model. Pass --model (`satexport models` "
                              "lists them) to see what does not fit.")
    if len(models) > 1:
        raise UsageError(f"{what} could be a checkpoint of {' or of '.join(models)}: say which with --model.")
    if (delay, window) == (None, None) and len(alike) == 1:
        delay = alike[0].delay
    return find_variant(models[0], delay, window)


def is_published(what: str) -> bool:
    """Return whether a checkpoint is given as "published" or "published:FILE"."""
    return what == "published" or what.startswith(PUBLISHED)


def models_of_published(what: str) -> list[str]:
    """Return the models that have the public file of "published:FILE"; the ending of FILE may be missing."""
    name = what.removeprefix(PUBLISHED)
    return [model for ending in ("", ".pt", ".pth") for model in models_of_file(name + ending)]


def _choose_published(what: str, variant: Variant) -> Published:
    """Return the public file that "published" or "published:FILE" means for a variant."""
    files = published_files(variant)
    if not files:
        raise UsageError(f"there is no published checkpoint of {variant.name}: pass --checkpoint FILE, "
                         "or random for a model of that size.")
    name = what.removeprefix(PUBLISHED)
    if what == "published":
        return files[0]
    for published in files:
        if name in (published.file, published.file.rpartition(".")[0]):
            return published
    models = models_of_published(what)
    other = f" It is one of {models[0]}: pass --model {models[0]}." if models else ""
    raise UsageError(f"there is no published checkpoint {shown(name)} of {variant.name}; expected "
                     f"{' or '.join(PUBLISHED + published.file for published in files)}.{other}")


def _find_alike(path: Path) -> list[Variant]:
    """Return the variants that the shapes in a file match; if the file has the name of a public one, only
    those of its models. Raises `CheckpointError` if it matches none, but a family knows what it is."""
    shapes = read_weights(path, marks()).shapes
    _check_supported(path, shapes)
    if known := identify(shapes):
        raise CheckpointError(f"{path}: {' '.join(known.values())}")
    alike, named = resembling(shapes), models_of_file(path.name)
    return [variant for variant in alike if variant.model in named] or alike


def _check_supported(path: Path, shapes: Shapes) -> None:
    """Raise `CheckpointError` for a file that a family knows but does not support."""
    if reason := refusal(path.name, shapes):
        raise CheckpointError(f"{path}: {reason}")


def find_weights(bundle: Bundle, checkpoint: str | None = None) -> Checkpoint[Variant]:
    """Return the weights that a bundle was made from: those that `checkpoint` names (a file, or one on the
    Hub), by default those in the file that this machine remembers by the SHA-256 in the bundle. Raises
    `CheckpointError` if there is no such file or it has another SHA-256, `BundleError` if this version does
    not know the model."""
    origin, variant = bundle.contract.checkpoint, find_contract_variant(bundle.contract)
    demos = find_family(variant.family).DEMOS.values()
    is_file = origin.source in ("file", "hub")
    what = checkpoint or (find_by_sha256(origin.sha256, demos) if is_file else origin.source)
    if what is None:
        passed = origin.name if origin.source == "hub" else "FILE"
        raise CheckpointError(f"{bundle.path} was made from {origin.name} (SHA-256 "
                              f"{origin.sha256[:12]}...), which is not known on this machine: pass "
                              f"--checkpoint {passed}, or use --golden, which needs no weights.")
    weights = load_checkpoint(str(what), variant, bundle.path / LABELS)
    if weights.sha256 != origin.sha256:
        raise CheckpointError(f"{weights.name} has the SHA-256 {weights.sha256[:12]}..., {bundle.path} was "
                              f"made from {origin.name} with {origin.sha256[:12]}.... "
                              "Pass that file with --checkpoint, or export again.")
    return weights


def _read(path: Path, variant: V, labels: Path | None, source: Literal["file", "hub", "demo"] = "file",
          name: str = "", is_sure: bool = False) -> Checkpoint[V]:
    """Read a file of weights; `name` is what it is called, if not by its path. `is_sure`: its publisher or
    its repository says that it is of this model."""
    file = read_weights(path, marks())
    _check_supported(path, file.shapes)
    _check_family(path, file, variant)
    family, named = find_family(variant.family), models_of_file(path.name)
    variant = family.fit(variant, file)
    if named and variant.model not in _fitted(named, file):
        raise CheckpointError(f"{path}: has the name of a published checkpoint of {' or '.join(named)}, not "
                              f"of {variant.model}. Pass --model {named[0]}; if it is another file, rename "
                              "it.")
    state = family.read(file, variant, path)
    names = _find_labels(path, family.count_classes(state), labels)
    if family.SORTS_CLASSES and len(names) == len(audioset_labels()) and names != audioset_labels():
        raise DataError(f"{labels}: does not have AudioSet's labels in AudioSet's order; expected these, "
                        f"because the {len(names)} classes of {path.name} are sorted into that order. Leave "
                        "--labels out.")
    dtype = "float16" if any(entry.dtype == "float16" for entry in file.entries.values()) else "float32"
    sha256 = sha256_of(path)
    if source != "demo":
        remember(sha256, path)
    caution = family.caution(variant, file.shapes, is_sure or bool(named))
    return Checkpoint(variant=variant, state=state, labels=names, source=source, sha256=sha256, dtype=dtype,
                      name=name or path.name.encode("utf-8", "backslashreplace").decode(), caution=caution)


def _fitted(models: Sequence[str], file: StateFile) -> set[str]:
    """Return the models that these become if they take from a file what they leave to it."""
    return {find_family(variant.family).fit(variant, file).model for variant in all_variants()
            if variant.model in models}


def _check_family(path: Path, file: StateFile, variant: Variant) -> None:
    """Raise `CheckpointError` if the shapes in a file match another family, or only another one knows it."""
    alike = resembling(file.shapes)
    if alike and variant.family not in {other.family for other in alike}:
        guess = next((other for other in alike if other.delay == variant.window), alike[0])
        raise CheckpointError(f"{path}: is not {variant.model} at {variant.window} s. This looks like "
                              f"{guess.model} at {guess.delay} s: {advise_variant(alike, variant)}.")
    known = identify(file.shapes)
    if known and variant.family not in known:
        raise CheckpointError(f"{path}: is not {variant.model} at {variant.window} s. "
                              f"{' '.join(known.values())}")


def _find_demo(variant: Variant) -> Path:
    demos = find_family(variant.family).DEMOS
    if variant.chunk_name not in demos:
        others = [named_variant(name) for family in FAMILIES for name in find_family(family).DEMOS]
        known = " or ".join(f"a {other.model} at {other.delay} s" for other in others)
        passed = " or ".join(f"--model {other.model} --delay {other.delay}" for other in others)
        raise UsageError(f"the demo checkpoint is {known}, not a {variant.model} at {variant.delay} s: pass "
                         f"{passed}, or --checkpoint random for a model of that size.")
    path = demos[variant.chunk_name]
    if not path.is_file():
        raise CheckpointError(f"{path}: this installation lacks the demo checkpoint: install "
                              "satexport again, or pass --checkpoint FILE or random.")
    return path


def _find_labels(path: Path, classes: int, labels: Path | None) -> tuple[str, ...]:
    if labels is None:
        names = audioset_labels()
        if classes != len(names):
            raise CheckpointError(
                f"{path}: has {classes} classes, names are known for AudioSet's "
                f"{len(names)}: pass --labels FILE with {classes} lines.")
        return names
    names = read_labels(labels)
    if len(names) != classes:
        raise DataError(f"{labels}: has {len(names)} labels, {path.name} has {classes} classes: "
                        f"expected {classes} lines, in the order of the scores.")
    return names


def _random(variant: V, labels: Path | None, seed: int) -> Checkpoint[V]:
    names = audioset_labels() if labels is None else read_labels(labels)
    state = find_family(variant.family).random(variant, len(names), seed)
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(state[key].tobytes())
    return Checkpoint(variant=variant, state=state, labels=names, source="random",
                      name=f"random (seed {seed})", sha256=digest.hexdigest(), dtype="float32")
