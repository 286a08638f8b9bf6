"""What is on an ARM device: Debian's Python for arm64, and the wheels of `satexport[cpu]`.

All of it is downloaded into a folder that later runs use again; nothing is installed on this system.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from satexport.errors import MissingError, RunError
from satexport.files import staged_folder
from tests import ROOT

EMULATORS = ("qemu-aarch64-static", "qemu-aarch64")
DEBIAN_PACKAGES = ("python3", "libstdc++6")  # and what they depend on
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64",
             "manylinux2014_aarch64")
EXTRA = "cpu"


@dataclass(frozen=True)
class Device:
    """The folders of a device."""

    system: Path     # with Debian's /usr and /lib
    packages: Path   # the wheels that satexport[cpu] needs, unpacked
    satexport: Path  # satexport itself, unpacked

    @property
    def python(self) -> Path:
        return self.system / "usr" / "bin" / "python3"


def find_emulator() -> str:
    """Return the path of QEMU's emulator of ARM programs. Raises `MissingError` if this or a program that the
    downloads need is not installed."""
    found = next(filter(None, map(shutil.which, EMULATORS)), None)
    if not found:
        raise MissingError(f"emulation of ARM is not installed: neither {' nor '.join(EMULATORS)} is on the "
                           "PATH. Install Debian's package qemu-user-static: sudo apt-get install "
                           "qemu-user-static.")
    for program, package in (("apt-get", "apt"), ("dpkg-deb", "dpkg")):
        if not shutil.which(program):
            raise MissingError(f"{program} is not installed, but Debian's packages for arm64 are downloaded "
                               f"and unpacked here. Run this on Debian, or install its package {package}.")
    return found


def prepare(folder: Path) -> Device:
    """Return the device in a folder, and download what is not there yet. Each of its parts is there
    completely or not at all. Raises `RunError` if a download fails."""
    folder = folder.absolute()
    release = Path("/etc/os-release").read_bytes() if Path("/etc/os-release").exists() else b""
    system = folder / f"system-{_key(release, ' '.join(DEBIAN_PACKAGES).encode())}"
    if not system.exists():
        with staged_folder(system, lambda _: True) as stage:
            _download_system(stage)
    version = (system / "usr" / "bin" / "python3").resolve().name.removeprefix("python")
    wheel = _build_wheel(folder)
    pins = (ROOT / "requirements.lock").read_bytes() + (ROOT / "pyproject.toml").read_bytes()
    packages = folder / f"packages-{_key(pins, version.encode(), ' '.join(PLATFORMS).encode())}"
    if not packages.exists():
        with staged_folder(packages, lambda _: True) as stage:
            _download_packages(stage, wheel, version)
    with staged_folder(folder / "satexport", lambda _: True) as stage:
        _run(sys.executable, "-m", "zipfile", "-e", wheel, stage)
    return Device(system, packages, folder / "satexport")


def _download_system(folder: Path) -> None:
    """Download Debian's packages with a state of apt of their own, in which nothing is installed, and unpack
    them."""
    apt = folder / "apt"
    for place in ("state/lists/partial", "cache/archives/partial"):
        (apt / place).mkdir(parents=True)
    (apt / "state" / "status").touch()
    options = [word for option in (
        "APT::Architecture=arm64", "APT::Architectures=arm64", f"Dir::State={apt}/state",
        f"Dir::State::status={apt}/state/status", f"Dir::Cache={apt}/cache", "APT::Sandbox::User=root",
    ) for word in ("-o", option)]
    _run("apt-get", *options, "update")
    _run("apt-get", *options, "install", "--yes", "--download-only", "--no-install-recommends",
         *DEBIAN_PACKAGES)
    for package in sorted((apt / "cache" / "archives").glob("*.deb")):
        _run("dpkg-deb", "-x", package, folder)
    shutil.rmtree(apt)


def _build_wheel(folder: Path) -> Path:
    """Build satexport's own wheel."""
    with staged_folder(folder / "wheel", lambda _: True) as stage:
        _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", stage)
    return next((folder / "wheel").glob("*.whl"))


def _download_packages(folder: Path, wheel: Path, version: str) -> None:
    """Unpack the wheels for ARM that pip resolves for `satexport[cpu]`, in the locked versions, which are
    checked by their hashes."""
    cross = ["--quiet", "--disable-pip-version-check", "--only-binary=:all:", "--implementation=cp",
             f"--python-version={version}", *(f"--platform={name}" for name in PLATFORMS)]
    pip = (sys.executable, "-m", "pip", "install", *cross, "--target", folder)
    report = folder / "report.json"
    _run(*pip, "--dry-run", "--report", report, "--constraint", ROOT / "constraints.txt", f"{wheel}[{EXTRA}]")
    pins = {entry["metadata"]["name"]: entry["metadata"]["version"]
            for entry in json.loads(report.read_bytes())["install"]}
    del pins["satexport"]
    (folder / "device.lock").write_text(select_locked((ROOT / "requirements.lock").read_text("utf-8"), pins),
                                        "utf-8")
    _run(*pip, "--no-deps", "--no-compile", "--require-hashes", "-r", folder / "device.lock")


def select_locked(lock: str, pins: Mapping[str, str]) -> str:
    """Return the entries of a lock file for these packages in these versions, name to version, without their
    markers, which pip would judge for this Python. Raises `KeyError` for one that is not locked."""
    entries = {(_normalized(entry["name"]), entry["version"]): entry["hashes"] for entry in re.finditer(
        r"(?m)^(?P<name>[\w.-]+)==(?P<version>[^\s;]+)[^\\\n]*(?P<hashes>(?:\\\n[^\\\n]*)*)$", lock)}
    return "".join(f"{name}=={version} {entries[_normalized(name), version]}\n"
                   for name, version in pins.items())


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _key(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def _run(*command: object) -> None:
    """Run a program; raises `RunError` with the end of its output if it fails."""
    done = subprocess.run([str(word) for word in command], cwd=ROOT, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
                          errors="replace", check=False)
    if done.returncode:
        raise RunError(f"{Path(str(command[0])).name} ended with exit code {done.returncode}; it needs "
                       "Debian's package index and pip's.", *done.stdout.splitlines()[-10:])
