"""axe-core, which finds what people with disabilities cannot use on a page. It is taken from its npm package
once and kept in build/. Tests that need it are skipped by name without it; under CI that is a failure."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from satexport.files import write_bytes
from tests import ROOT
from tests.browser import lack

PACKAGE, VERSION = "axe-core", "4.14.1"
SHA512 = (  # of the npm package, base64, as npm's registry lists it (dist.integrity)
    "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==")
FILE = ROOT / "build" / "cache" / f"{PACKAGE}-{VERSION}" / "axe.min.js"
TIMEOUT = 120  # s


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    if not FILE.is_file():
        _fetch()
    return FILE.read_text("utf-8")


def _fetch() -> None:
    npm = shutil.which("npm")
    if npm is None:
        lack(f"needs npm, which fetches {PACKAGE} {VERSION}")
    with tempfile.TemporaryDirectory() as temporary:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", temporary, "--cache",
                   str(Path(temporary, "cache")), "--ignore-scripts", "--no-update-notifier"]
        try:
            done = subprocess.run(command, cwd=temporary, stdin=subprocess.DEVNULL, capture_output=True,
                                  check=False, timeout=TIMEOUT)
            found = done.stderr.decode("utf-8", "replace")
        except (OSError, subprocess.TimeoutExpired) as error:
            found = str(error)
        package = next(Path(temporary).glob("*.tgz"), None)
        if package is None:
            lack(f"needs {PACKAGE} {VERSION}, which npm cannot fetch: {found[-300:]}")
        digest = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
        assert digest == SHA512, f"{PACKAGE} {VERSION} of npm's registry has the SHA-512 {digest}"
        with tarfile.open(package) as archive:
            member = archive.extractfile("package/axe.min.js")
            assert member
            write_bytes(FILE, member.read())
