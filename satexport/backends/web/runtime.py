"""The files of ONNX Runtime Web that travel with a bundle. They are taken from its npm package once and kept
in the user's cache folder; each must have the SHA-256 below."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from satexport.errors import DataError, MissingError, RunError
from satexport.files import download_folder, sha256_of, write_bytes
from satexport.progress import progress

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
TIMEOUT = 600  # s, for the 33 MB of the npm package


@dataclass(frozen=True, kw_only=True)
class RuntimeFile:
    """A file in `dist/` of the npm package."""

    name: str
    size: int     # bytes
    sha256: str


FILES = (
    RuntimeFile(name="ort.wasm.bundle.min.mjs", size=73_054,
                sha256="11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90"),
    RuntimeFile(name="ort-wasm-simd-threaded.wasm", size=14_239_897,
                sha256="3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"))


def find_runtime() -> list[Path]:
    """Return the paths of FILES in the cache folder, fetching them first if one is missing.

    Raises `MissingError` if npm is needed and not installed, `RunError` if it cannot fetch the package or the
    files cannot be written, `DataError` if a file has another SHA-256.
    """
    folder = runtime_folder()
    paths = [folder / file.name for file in FILES]
    if not all(path.is_file() for path in paths):
        with progress(f"fetch {PACKAGE} {VERSION}", None):
            _fetch(folder)
    for file, path in zip(FILES, paths, strict=True):
        if (found := sha256_of(path)) != file.sha256:
            raise DataError(f"{path} has the SHA-256 {found[:12]}..., that of {PACKAGE} {VERSION} is "
                            f"{file.sha256[:12]}... Remove it to fetch it again.")
    return paths


def runtime_folder() -> Path:
    """Return the folder of the files, which may not exist yet. Raises `RunError` if there is none."""
    return download_folder() / f"{PACKAGE}-{VERSION}"


def _fetch(folder: Path) -> None:
    """Fetch the package with npm, which knows the user's registry and proxy, and keep FILES of it."""
    names = " and ".join(file.name for file in FILES)
    by_hand = (f"Or put {names} of {PACKAGE} {VERSION} into {folder} by hand; they are in dist/ of the npm "
               "package.")
    npm = shutil.which("npm")
    if npm is None:
        raise MissingError(f"npm is not installed, which fetches {PACKAGE} {VERSION}: install Node.js. "
                           f"{by_hand}")
    with tempfile.TemporaryDirectory() as temporary:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", temporary, "--cache",
                   str(Path(temporary, "cache")), "--ignore-scripts", "--no-update-notifier"]
        try:
            done = subprocess.run(  # noqa: S603
                command, cwd=temporary, stdin=subprocess.DEVNULL, capture_output=True, check=False,
                timeout=TIMEOUT, text=True, encoding="utf-8", errors="replace")
            found = "" if done.returncode == 0 else _reason(done.stderr)
        except (OSError, subprocess.TimeoutExpired) as error:
            found = str(error)
        package = next(Path(temporary).glob("*.tgz"), None)
        if package is None:
            raise RunError(f"npm cannot fetch {PACKAGE} {VERSION} ({found or 'it wrote no package'}): check "
                           f"the network and npm's registry (npm config get registry). {by_hand}")
        for file, content in _unpack(package).items():
            write_bytes(folder / file.name, content)


def _reason(output: str) -> str:
    """Return the first error in the output of npm."""
    lines = [line.split(mark, 1)[1].strip() for line in output.splitlines()
             for mark in ("npm error", "npm ERR!") if mark in line]  # newer versions, and until 9
    return next((line for line in lines if not line.startswith(("code ", "syscall ", "errno "))),
                "no reason given").rstrip(".")


def _unpack(package: Path) -> dict[RuntimeFile, bytes]:
    """Return the contents of FILES in an npm package. Raises `RunError` if one is missing or differs."""
    contents = {}
    for file in FILES:
        try:
            with tarfile.open(package) as archive:
                member = archive.extractfile(f"package/dist/{file.name}")
                content = member.read(file.size + 1) if member else b""
            if hashlib.sha256(content).hexdigest() != file.sha256:
                raise OSError("its SHA-256 differs from that of the published package")
        except (tarfile.TarError, KeyError, EOFError, OSError) as error:
            raise RunError(f"the package {PACKAGE} {VERSION} that npm fetched has no usable dist/{file.name} "
                           f"({error}): check npm's registry (npm config get registry).") from None
        contents[file] = content
    return contents
