"""Checkpoints in repositories on the Hugging Face Hub. The model types in a repository's config.json are
checked before its weights are fetched."""

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
from satexport.terminal import note, shown

CONFIG: Final = "config.json"
MAX_CONFIG: Final = 1_000_000  # bytes; one with 527 labels has 40,000


class HubWeights(NamedTuple):
    """A file of weights from the Hub."""

    path: Path
    name: str              # hub:OWNER/REPO/FILE@COMMIT, which always names the same content
    types: frozenset[str]  # the model types that the repository states; empty if it states none


@contextmanager
def fetch_from_hub(text: str, expected_types: frozenset[str] | None = None) -> Iterator[HubWeights]:
    """Fetch the weights that `hub:OWNER/REPO[/FILE][@REVISION]` names, unless the Hub's cache has them, for a
    block that reads them.

    Their SHA-256 must be the one that the Hub states or, if it states none, the one at the first use of this
    file at this commit. `expected_types` are the `hub_types` of the chosen variant; None: of all variants.

    Raises `UsageError` for a malformed name or one that fits several files, `MissingError` without
    huggingface_hub, `CheckpointError` if the file does not exist, needs access rights, belongs to another
    model or has changed, and `RunError` if the transfer fails.
    """
    name = parse_hub_name(text)
    repository = open_repository(name)
    if repository.is_cached_only:
        note(f"The Hub cannot be reached: using {repository.name} at {repository.commit}, from the cache.")
    file = repository.choose_weights(name.file)
    types = _read_types(repository)
    _check_types(repository, types, expected_types)
    path, full_name = repository.fetch(file), repository.full_name(file)
    hash_file = download_folder() / "hub" / repository.name / repository.commit / f"{file}.sha256"
    with check_download(path, hash_file, repository.files[file]):
        try:
            yield HubWeights(path, full_name, types)
        except CheckpointError as error:
            raise CheckpointError(f"{error} The file is {full_name}; to fetch it again, remove "
                                  f"{path.resolve()}.") from None


def _read_types(repository: HubRepository) -> frozenset[str]:
    """Return the values of `model_type` and `architectures` in the repository's config.json; an empty set if
    there is no such file."""
    if CONFIG not in repository.files:
        return frozenset()
    path = repository.fetch(CONFIG)
    try:
        config = json.loads(read_at_most(path, MAX_CONFIG))
        if not isinstance(config, dict):
            raise ValueError(f"it holds one {type(config).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{repository.full_name(CONFIG)}: cannot be read ({error}); expected a JSON object: if "
            "`satexport models` lists the model, fetch the weights by hand and pass the file with "
            "--checkpoint FILE.") from None
    architectures = config.get("architectures")
    values = [config.get("model_type"), *(architectures if isinstance(architectures, list) else [])]
    return frozenset(value for value in values if value and isinstance(value, str))


def _check_types(repository: HubRepository, types: frozenset[str],
                 expected_types: frozenset[str] | None) -> None:
    """Raise `CheckpointError` if the repository states model types, but none of the expected ones."""
    known = all_hub_types() if expected_types is None else expected_types
    if not types or types & known:
        return
    stated = " and ".join(map(shown, sorted(types)))
    problem = f"{repository.full_name(CONFIG)}: says that the model is {stated}"
    if models := models_of_type(types):
        raise CheckpointError(f"{problem}, expected the type of the model that --model names: pass --model "
                              f"{' or '.join(models)}, or leave --model out.")
    expected = " or ".join(map(shown, sorted(all_hub_types()))) or "a repository without config.json"
    raise CheckpointError(f"{problem}, expected {expected}. If config.json is wrong and `satexport models` "
                          "lists the model, fetch the weights by hand and pass them with --checkpoint FILE "
                          "--model NAME.")
