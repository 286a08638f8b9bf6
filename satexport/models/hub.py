"""Checkpoints in repositories of the Hugging Face Hub: what a repository says of its model is read before its
weights are fetched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from satexport.errors import CheckpointError
from satexport.files import download_folder, read_at_most
from satexport.hub import HubRepository, open_repository, parse_hub_name
from satexport.models.families import all_hub_types, models_of_type
from satexport.models.weightfile import check_download
from satexport.terminal import shown

CONFIG: Final = "config.json"
MAX_CONFIG: Final = 1_000_000  # bytes; one with 527 labels has 40,000


class HubWeights(NamedTuple):
    """A file of weights from the Hub."""

    path: Path
    name: str              # hub:OWNER/REPO/FILE@COMMIT, which names the same file for ever
    types: frozenset[str]  # of its model, as the repository says; empty if it does not


@contextmanager
def fetch_from_hub(what: str, types_read: frozenset[str] | None = None) -> Iterator[HubWeights]:
    """Give the weights that `hub:OWNER/REPO[/FILE][@REVISION]` names to a block that reads them: the file in
    the Hub's cache, else fetched.

    Its SHA-256 must be the one that the Hub states or, if it states none, the one at the first use of this
    file at this commit. `types_read` are the `hub_types` of the variant that is asked for; None: of all.

    Raises `UsageError` for a name of another form or one of several files, `MissingError` without
    huggingface_hub, `CheckpointError` for what does not exist, is not handed out, is of another model or
    changed, `RunError` for a transfer that fails.
    """
    asked = parse_hub_name(what)
    repository = open_repository(asked)
    file = repository.choose_weights(asked.file)
    types = _read_types(repository)
    _check_types(repository, types, types_read)
    path, name = repository.fetch(file), repository.full_name(file)
    note = download_folder() / "hub" / repository.name / repository.commit / f"{file}.sha256"
    with check_download(path, note, repository.files[file]):
        try:
            yield HubWeights(path, name, types)
        except CheckpointError as error:
            raise CheckpointError(f"{error} The file is {name}; to fetch it again, remove {path.resolve()}."
                                  ) from None


def _read_types(repository: HubRepository) -> frozenset[str]:
    """The values of `model_type` and `architectures` in the repository's config.json; none without it."""
    if CONFIG not in repository.files:
        return frozenset()
    path = repository.fetch(CONFIG)
    try:
        config = json.loads(read_at_most(path, MAX_CONFIG))
        if not isinstance(config, dict):
            raise ValueError(f"it holds one {type(config).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{repository.full_name(CONFIG)}: cannot be read ({error}); expected a JSON object: if the "
            "weights are of a model that `satexport models` lists, fetch them by hand and pass the file."
        ) from None
    architectures = config.get("architectures")
    values = [config.get("model_type"), *(architectures if isinstance(architectures, list) else [])]
    return frozenset(value for value in values if value and isinstance(value, str))


def _check_types(repository: HubRepository, types: frozenset[str], types_read: frozenset[str] | None) -> None:
    """Raise `CheckpointError` if the repository says that it has another model than those that are read."""
    known = all_hub_types() if types_read is None else types_read
    if not types or types & known:
        return
    stated = " and ".join(map(shown, sorted(types)))
    found = f"{repository.full_name(CONFIG)}: says that the model is {stated}"
    if models := models_of_type(types):
        raise CheckpointError(f"{found}, expected one that the named model has: pass --model "
                              f"{' or '.join(models)}, or leave --model out.")
    expected = " or ".join(map(shown, sorted(all_hub_types()))) or "a repository without config.json"
    raise CheckpointError(f"{found}, expected {expected}: no model that `satexport models` lists has such "
                          "weights. If one does, fetch them by hand and pass the file with --model NAME.")
