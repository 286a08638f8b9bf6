"""Files of repositories on the Hugging Face Hub, by the package huggingface_hub (extra `hub`).

Its settings hold as everywhere: cache folder (HF_HOME, HF_HUB_CACHE), token (HF_TOKEN, `hf auth login`),
endpoint (HF_ENDPOINT) and offline mode (HF_HUB_OFFLINE). If the Hub cannot be reached, what the cache has of
the revision is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from satexport.errors import CheckpointError, RunError, UsageError, requires_extra
from satexport.runtimes import import_runtime
from satexport.terminal import clipped, shown
from satexport.version import __version__

PREFIX: Final = "hub:"
FORM: Final = "hub:OWNER/REPO[/FILE][@REVISION], such as hub:mispeech/ced-tiny"
TIMEOUT: Final = 30.0  # s, for the answer that lists a repository
LISTED: Final = 8      # files that an error names
WEIGHTS: Final = (".safetensors", ".pt", ".pth")           # endings of files of weights
USUAL_WEIGHTS: Final = ("model.safetensors", "pytorch_model.bin")  # taken first, in this order
_PART: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"     # of a name, as the Hub allows it
_REPOSITORY: Final = re.compile(rf"(?=.{{1,96}}\Z){_PART}/{_PART}", re.ASCII)
_REVISION: Final = re.compile(r"(?!.*(?:\.\.|//|/\Z|\.lock\Z))[\w][\w.+/-]*")  # a branch, a tag or a commit
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_OUTSIDE: Final = re.compile(r"\\|[\0-\x1f\x7f]|(?:\A|/)\.{0,2}(?:/|\Z)")  # of a path: may lead elsewhere


@dataclass(frozen=True)
class HubName:
    """What `hub:OWNER/REPO[/FILE][@REVISION]` says."""

    repository: str         # "owner/repo"
    file: str | None        # None: the weights are looked for
    revision: str | None    # None: the default branch


def is_hub_name(text: str) -> bool:
    return text.startswith(PREFIX)


def parse_hub_name(text: str) -> HubName:
    """Read a name. Raises `UsageError` if it has another form."""
    path, at, revision = text.removeprefix(PREFIX).rpartition("@")
    if not at:
        path, revision = revision, ""
    owner, _, rest = path.partition("/")
    repo, slash, file = rest.partition("/")
    name = f"{owner}/{repo}"
    fits = (_REPOSITORY.fullmatch(name) and not re.search(r"--|\.\.|\.git\Z", name)
            and (not at or _REVISION.fullmatch(revision))
            and (not slash or not _OUTSIDE.search(file)))
    if not fits:
        raise UsageError(f"{text}: is no name on the Hugging Face Hub; expected {FORM}.")
    return HubName(name, file or None, revision or None)


@dataclass(frozen=True, kw_only=True)
class HubRepository:
    """A repository at a commit."""

    name: str
    revision: str | None               # that the commit was found by; None: the default branch
    commit: str                        # 40 hex digits
    files: Mapping[str, str | None]    # paths; the SHA-256 of each whose content the Hub knows by it
    is_cached_only: bool               # the Hub cannot be reached: these are the files in its cache

    def fetch(self, file: str) -> Path:
        """Return the path of a file in the Hub's cache, fetched if it is not there. Raises `CheckpointError`
        if the Hub does not hand it out, `RunError` if it cannot be transferred or written."""
        hub = _import_hub()
        revision = self.commit if self.is_cached_only else self.revision  # which the cache then knows
        with _explained(hub, self.name, revision):
            path = Path(hub.hf_hub_download(self.name, file, revision=revision, library_name="satexport",
                                            library_version=__version__))
        if (commit := path.parents[file.count("/")].name) != self.commit:
            raise RunError(f"{PREFIX}{self.name}: was at {self.commit} and is now at {commit}: it changed "
                           "while it was read. Run the command again, or name a commit after the @.")
        return path

    def full_name(self, file: str) -> str:
        """The name of a file that no later commit changes."""
        return f"{PREFIX}{self.name}/{file}@{self.commit}"

    def choose_weights(self, file: str | None) -> str:
        """Return the path of the file of weights: the one that is named, model.safetensors,
        pytorch_model.bin, or the only one that there is. Raises `CheckpointError` if there is none,
        `UsageError` if there are several."""
        where = "what the cache has of it (the Hub cannot be reached)" if self.is_cached_only else "it"
        found = sorted(path for path in self.files if path.endswith((*WEIGHTS, *USUAL_WEIGHTS)))
        if file is not None:
            if file not in self.files:
                raise CheckpointError(f"{PREFIX}{self.name}: has no file {shown(file)} at {self.commit}; "
                                      f"the weights in {where} are {_list(found)}: name one of them, as "
                                      f"{PREFIX}{self.name}/FILE.")
            return file
        usual = [path for path in USUAL_WEIGHTS if path in self.files]
        if not usual and not found:
            raise CheckpointError(f"{PREFIX}{self.name}: no weights are in {where}, only "
                                  f"{_list(sorted(self.files))}; expected {', '.join(USUAL_WEIGHTS)} or a "
                                  f"file that ends with {' or '.join(WEIGHTS)}: choose another repository.")
        if not usual and len(found) > 1:
            raise UsageError(f"{PREFIX}{self.name}: has several files of weights, {_list(found)}: say which, "
                             f"as {PREFIX}{self.name}/{found[0]}.")
        return (usual or found)[0]


def open_repository(name: HubName) -> HubRepository:
    """Find a repository and the commit that its revision is now.

    Raises `MissingError` without huggingface_hub, `CheckpointError` for a repository or revision that does
    not exist or is not handed out, `RunError` if the Hub cannot be reached and the cache does not have it.
    """
    hub = _import_hub()
    errors = hub.errors
    with _explained(hub, name.repository, name.revision):
        try:
            api = hub.HfApi(library_name="satexport", library_version=__version__)
            found = api.model_info(name.repository, revision=name.revision, files_metadata=True,
                                   timeout=TIMEOUT)
            if not _COMMIT.fullmatch(found.sha or ""):
                raise ValueError(f"it names the commit {found.sha!r}")
        except (errors.OfflineModeIsEnabled, errors.HTTPError) as error:
            response = getattr(error, "response", None)
            if response is not None and response.status_code < 500:  # the Hub has answered
                raise
            cached = _find_cached(hub, name)
            if cached is None:
                raise
            return cached
    files = {file.rfilename: file.lfs.sha256 if file.lfs else None for file in found.siblings or ()
             if not _OUTSIDE.search(file.rfilename)}
    return HubRepository(name=name.repository, revision=name.revision, commit=found.sha, files=files,
                         is_cached_only=False)


def _find_cached(hub: Any, name: HubName) -> HubRepository | None:
    """What the cache has of a repository."""
    try:
        folder = Path(hub.snapshot_download(name.repository, revision=name.revision, local_files_only=True,
                                            allow_patterns=[]))
    except hub.errors.LocalEntryNotFoundError:
        return None
    files = {path.relative_to(folder).as_posix(): None for path in folder.rglob("*") if path.is_file()}
    return HubRepository(name=name.repository, revision=name.revision, commit=folder.name, files=files,
                         is_cached_only=True)


def _import_hub() -> Any:
    """Import huggingface_hub. Raises `MissingError` without it, `UsageError` if a variable of the environment
    keeps it from being imported."""
    try:
        with requires_extra("hub"):
            hub = import_runtime("huggingface_hub")
            for part in ("constants", "errors"):
                import_runtime(f"huggingface_hub.{part}")
            return hub
    except ValueError as error:
        raise UsageError(f"huggingface_hub refuses its settings ({error}); expected an address in "
                         "$HF_ENDPOINT, and numbers in $HF_HUB_ETAG_TIMEOUT and $HF_HUB_DOWNLOAD_TIMEOUT: "
                         "correct or unset them.") from None


@contextmanager
def _explained(hub: Any, repository: str, revision: str | None = None) -> Iterator[None]:
    """Turn each error of huggingface_hub inside the block into one of ours."""
    errors, name = hub.errors, f"{PREFIX}{repository}"
    endpoint, cache = hub.constants.ENDPOINT, hub.constants.HF_HUB_CACHE
    try:
        yield
    except errors.GatedRepoError:
        raise CheckpointError(
            f"{name}: is gated; expected the token of an account that has accepted its terms: accept them at "
            f"{endpoint}/{repository}, then log in with `hf auth login` or set HF_TOKEN.") from None
    except errors.RevisionNotFoundError:
        raise CheckpointError(f"{name}: has no revision {shown(revision or 'main')}; expected a branch, tag "
                              f"or commit that {endpoint}/{repository} lists: name one after the @, or leave "
                              "it out.") from None
    except errors.HfHubHTTPError as error:
        raise _explain_status(name, endpoint, error) from None
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, errors.HTTPError) as error:
        if hub.constants.HF_HUB_OFFLINE:
            raise RunError(f"{name}: is not in the cache {cache}, and offline mode is on: unset "
                           "HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE, or copy the cache of a machine that has "
                           "it.") from None
        raise RunError(f"{name}: no answer from {endpoint} ({_reason(error)}): check the network and, if you "
                       "need a proxy, $HTTPS_PROXY; $HF_ENDPOINT chooses another Hub. Or fetch the file by "
                       "hand and pass it with --checkpoint FILE.") from None
    except OSError as error:
        if error.errno is None:  # the library's own: what came is not as long as it was announced
            raise RunError(f"{name}: the transfer broke off ({_reason(error)}); expected the whole file: run "
                           "the command again.") from None
        raise RunError(f"{error.filename or cache}: cannot be written ({error.strerror}); expected a folder "
                       "with room that you may write to: make room, or set HF_HOME=DIR.") from None
    except Exception as error:  # of transfers by Xet, of addresses that are none: without a common class
        raise RunError(f"{name}: cannot be fetched from {endpoint} ({_reason(error)}): check $HF_ENDPOINT "
                       "and the network, or fetch the file by hand and pass it with --checkpoint FILE."
                       ) from None


def _explain_status(name: str, endpoint: str, error: Any) -> CheckpointError | RunError:
    """The error for an HTTP status that the Hub answered with."""
    status = error.response.status_code
    if status == 401 and "credentials" in str(error.server_message or ""):
        return CheckpointError(f"{name}: {endpoint} does not accept the token that was sent; expected a "
                               "valid one or none: log in again with `hf auth login`, or correct or unset "
                               "HF_TOKEN.")
    if status in (401, 404):
        return CheckpointError(f"{name}: {endpoint} has no such repository, or it is private; expected "
                               f"{FORM}: check the name, or log in with `hf auth login` or set HF_TOKEN.")
    if status < 500 and status not in (408, 429):
        return CheckpointError(f"{name}: {endpoint} refuses it ({status} {_reason(error)}): see "
                               f"{endpoint}/{name.removeprefix(PREFIX)}, or choose another repository.")
    return RunError(f"{name}: {endpoint} cannot hand it out now (status {status}): try again later.")


def _reason(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return clipped(lines[0]) if lines else type(error).__name__


def _list(files: list[str]) -> str:
    more = f" and {len(files) - LISTED} more" if len(files) > LISTED else ""
    return (", ".join(map(clipped, files[:LISTED])) or "nothing") + more
