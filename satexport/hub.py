"""Fetch files from repositories on the Hugging Face Hub, with the package huggingface_hub (extra `hub`).

Its settings apply as usual: cache folder (HF_HOME, HF_HUB_CACHE), token (HF_TOKEN, `hf auth login`), endpoint
(HF_ENDPOINT) and offline mode (HF_HUB_OFFLINE). If the Hub cannot be reached, the cached files of the
revision are used.
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
TIMEOUT: Final = 30.0  # s, to list the files of a repository
LISTED: Final = 8      # at most so many files are named in an error
WEIGHTS: Final = (".safetensors", ".pt", ".pth")           # file name endings of weights
USUAL_WEIGHTS: Final = ("model.safetensors", "pytorch_model.bin")  # preferred, in this order
_PART: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"     # an owner or a repository
_REPOSITORY: Final = re.compile(rf"(?=.{{1,96}}\Z){_PART}/{_PART}", re.ASCII)
_REVISION: Final = re.compile(r"(?!.*(?:\.\.|//|/\Z|\.lock\Z))[\w][\w.+/-]*")  # a branch, a tag or a commit
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_UNSAFE_PATH: Final = re.compile(r"\\|[\0-\x1f\x7f]|(?:\A|/)\.{0,2}(?:/|\Z)")  # may leave the repository


@dataclass(frozen=True)
class HubName:
    """The parts of `hub:OWNER/REPO[/FILE][@REVISION]`."""

    repository: str         # "owner/repo"
    file: str | None        # None: choose the file of weights
    revision: str | None    # None: the default branch


def is_hub_name(text: str) -> bool:
    return text.startswith(PREFIX)


def parse_hub_name(text: str) -> HubName:
    """Parse a name. Raises `UsageError` if it is malformed."""
    path, at, revision = text.removeprefix(PREFIX).rpartition("@")
    if not at:
        path, revision = revision, ""
    owner, _, rest = path.partition("/")
    repo, slash, file = rest.partition("/")
    name = f"{owner}/{repo}"
    fits = (_REPOSITORY.fullmatch(name) and not re.search(r"--|\.\.|\.git\Z", name)
            and (not at or _REVISION.fullmatch(revision))
            and (not slash or not _UNSAFE_PATH.search(file)))
    if not fits:
        raise UsageError(f"{text}: is not a name on the Hugging Face Hub; expected {FORM}.")
    return HubName(name, file or None, revision or None)


@dataclass(frozen=True, kw_only=True)
class HubRepository:
    """A repository at a commit."""

    name: str
    revision: str | None               # the name that led to the commit; None: the default branch
    commit: str                        # 40 hex digits
    files: Mapping[str, str | None]    # path -> SHA-256; None: the Hub does not state it
    is_cached_only: bool               # the Hub cannot be reached, and `files` are those in the cache

    def fetch(self, file: str) -> Path:
        """Return the path of a file in the Hub's cache, downloading it if necessary. Raises `CheckpointError`
        if the Hub denies access, `RunError` if the file cannot be transferred or written."""
        hub = _import_hub()
        # with the revision's name, not its commit, so that the cache maps the name to the commit
        revision = self.commit if self.is_cached_only else self.revision
        with _translate_errors(hub, self.name, revision):
            path = Path(hub.hf_hub_download(self.name, file, revision=revision, library_name="satexport",
                                            library_version=__version__))
        if (commit := path.parents[file.count("/")].name) != self.commit:
            raise RunError(f"{PREFIX}{self.name}: was at commit {self.commit} and is now at {commit}: it "
                           "changed meanwhile. Run the command again, or name a commit after the @.")
        return path

    def full_name(self, file: str) -> str:
        """Return the name of a file at this commit."""
        return f"{PREFIX}{self.name}/{file}@{self.commit}"

    def choose_weights(self, file: str | None) -> str:
        """Return the path of the file of weights: `file` if it is given, else model.safetensors,
        pytorch_model.bin or the only file of weights. Raises `CheckpointError` if there is none, `UsageError`
        if there are several."""
        place = "the cache (the Hub cannot be reached)" if self.is_cached_only else "the repository"
        weights = sorted(path for path in self.files if path.endswith((*WEIGHTS, *USUAL_WEIGHTS)))
        if file is not None:
            if file not in self.files:
                raise CheckpointError(f"{PREFIX}{self.name}: has no file {shown(file)} at {self.commit}; "
                                      f"the weights in {place} are {_join_names(weights)}: name one of them, "
                                      f"as {PREFIX}{self.name}/FILE.")
            return file
        usual = [path for path in USUAL_WEIGHTS if path in self.files]
        if not usual and not weights:
            raise CheckpointError(f"{PREFIX}{self.name}: {place} has no weights, only "
                                  f"{_join_names(sorted(self.files))}; expected {', '.join(USUAL_WEIGHTS)} "
                                  f"or a file that ends with {' or '.join(WEIGHTS)}: choose another "
                                  "repository.")
        if not usual and len(weights) > 1:
            raise UsageError(f"{PREFIX}{self.name}: has several files of weights, {_join_names(weights)}: "
                             f"say which, as {PREFIX}{self.name}/{weights[0]}.")
        return (usual or weights)[0]


def open_repository(name: HubName) -> HubRepository:
    """Find a repository and the current commit of its revision.

    Raises `MissingError` without huggingface_hub, `CheckpointError` for a repository or revision that does
    not exist or needs access rights, `RunError` if the Hub cannot be reached and the cache does not have it.
    """
    hub = _import_hub()
    errors = hub.errors
    with _translate_errors(hub, name.repository, name.revision):
        try:
            api = hub.HfApi(library_name="satexport", library_version=__version__)
            info = api.model_info(name.repository, revision=name.revision, files_metadata=True,
                                  timeout=TIMEOUT)
            if not _COMMIT.fullmatch(info.sha or ""):
                raise ValueError(f"it names the commit {info.sha!r}")
        except (errors.OfflineModeIsEnabled, errors.HTTPError) as error:
            response = getattr(error, "response", None)
            if response is not None and response.status_code < 500:  # the Hub has answered
                raise
            cached = _find_cached(hub, name)
            if cached is None:
                raise
            return cached
    files = {file.rfilename: file.lfs.sha256 if file.lfs else None for file in info.siblings or ()
             if not _UNSAFE_PATH.search(file.rfilename)}
    return HubRepository(name=name.repository, revision=name.revision, commit=info.sha, files=files,
                         is_cached_only=False)


def _find_cached(hub: Any, name: HubName) -> HubRepository | None:
    """Return the cached part of a repository; None if the cache does not have its revision."""
    try:
        folder = Path(hub.snapshot_download(name.repository, revision=name.revision, local_files_only=True,
                                            allow_patterns=[]))
    except hub.errors.LocalEntryNotFoundError:
        return None
    files = {path.relative_to(folder).as_posix(): None for path in folder.rglob("*") if path.is_file()}
    return HubRepository(name=name.repository, revision=name.revision, commit=folder.name, files=files,
                         is_cached_only=True)


def _import_hub() -> Any:
    """Import huggingface_hub. Raises `MissingError` if it is not installed, `UsageError` if an environment
    variable prevents its import."""
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
def _translate_errors(hub: Any, repository: str, revision: str | None = None) -> Iterator[None]:
    """Raise an error of satexport for each error of huggingface_hub in the block."""
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
                              "the @ out.") from None
    except errors.HfHubHTTPError as error:
        raise _explain_status(name, endpoint, error) from None
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, errors.HTTPError) as error:
        if hub.constants.HF_HUB_OFFLINE:
            raise RunError(f"{name}: is not in the cache {cache}, and offline mode is on: unset "
                           "HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE, or copy the cache from a machine that "
                           "has it.") from None
        raise RunError(f"{name}: no answer from {endpoint} ({_reason(error)}): check the network and, if you "
                       "need a proxy, $HTTPS_PROXY; $HF_ENDPOINT chooses another Hub. Or fetch the file by "
                       "hand and pass it with --checkpoint FILE.") from None
    except OSError as error:
        if error.errno is None:  # raised by the library: fewer bytes arrived than were announced
            raise RunError(f"{name}: the transfer broke off ({_reason(error)}); expected the whole file: run "
                           "the command again.") from None
        raise RunError(f"{error.filename or cache}: cannot be written ({error.strerror}); expected a folder "
                       "with room that you may write to: make room, or set HF_HOME=DIR.") from None
    except Exception as error:  # Xet transfers and invalid addresses raise errors without a common class
        raise RunError(f"{name}: cannot be fetched from {endpoint} ({_reason(error)}): check $HF_ENDPOINT "
                       "and the network, or fetch the file by hand and pass it with --checkpoint FILE."
                       ) from None


def _explain_status(name: str, endpoint: str, error: Any) -> CheckpointError | RunError:
    """Return the error for the HTTP status of the Hub's answer."""
    status = error.response.status_code
    if status == 401 and "credentials" in str(error.server_message or ""):
        return CheckpointError(f"{name}: {endpoint} does not accept the token that was sent; expected a "
                               "valid one or none: log in again with `hf auth login`, or correct or unset "
                               "HF_TOKEN.")
    if status in (401, 404):
        return CheckpointError(f"{name}: {endpoint} has no such repository, or it is private; expected "
                               f"{FORM}: check the name, or log in with `hf auth login` or set HF_TOKEN.")
    if status < 500 and status not in (408, 429):
        return CheckpointError(f"{name}: {endpoint} denies access ({status} {_reason(error)}): see "
                               f"{endpoint}/{name.removeprefix(PREFIX)}, or choose another repository.")
    return RunError(f"{name}: {endpoint} cannot serve it now (status {status}): try again later.")


def _reason(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return clipped(lines[0]) if lines else type(error).__name__


def _join_names(files: list[str]) -> str:
    more = f" and {len(files) - LISTED} more" if len(files) > LISTED else ""
    return (", ".join(map(clipped, files[:LISTED])) or "nothing") + more
