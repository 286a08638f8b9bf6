"""Bundles for browsers, and the browser. Tests that need Chromium, Playwright or ONNX Runtime Web are skipped
by name where these are missing; under CI that is a failure."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from satexport.backends.web import sizes
from satexport.backends.web.browser import CHROMIUM, chromium_flags, find_chromium
from satexport.backends.web.runtime import find_runtime, runtime_folder
from satexport.backends.web.server import serve_folder
from satexport.errors import MissingError, RunError
from tests import ROOT
from tests.backends.compiled import compiled
from tests.machine import need


def lack(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def onnxruntime_web() -> None:
    """ONNX Runtime Web in the cache folder of the session; fetched once into build/."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SATEXPORT_CACHE", str(ROOT / "build" / "cache"))
        try:
            paths = find_runtime()
        except (MissingError, RunError) as error:
            lack(f"needs ONNX Runtime Web: {error}")
    folder = runtime_folder()
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        shutil.copy(path, folder / path.name)


@pytest.fixture(scope="session")
def chromium() -> str:
    need("playwright", "web")
    try:
        return find_chromium()
    except MissingError as error:
        lack(f"needs Chromium: {error}")


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    """A browser of Playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium, args=chromium_flags())


@contextmanager
def quick_sizes() -> Iterator[None]:
    """Compress at the fastest levels: at the usual ones a bundle takes 10 s and more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "BROTLI", 1)
        patch.setattr(sizes, "GZIP", 1)
        yield


def compile_web(source: Path, name: str, folder: Path) -> Path:
    """Build a bundle; tests load it, so the build does not."""
    with quick_sizes(), pytest.MonkeyPatch.context() as patch:
        patch.setenv(CHROMIUM, "/nowhere/chromium")
        return compiled(source, name, folder)


# Bundles. Do not write into them: copy them.

@pytest.fixture(scope="session")
def web_int8(demo: Path, build: Path, onnxruntime_web: None) -> Path:
    """The demo in int8."""
    return compile_web(demo, "web-int8", build)


@pytest.fixture(scope="session")
def web_fp32(demo: Path, build: Path, onnxruntime_web: None) -> Path:
    """The demo in fp32."""
    return compile_web(demo, "web-fp32", build)


@pytest.fixture(scope="session")
def web_tiny(tiny: Path, build: Path, onnxruntime_web: None) -> Path:
    """A small model with random weights in fp32."""
    return compile_web(tiny, "web-fp32", build)


@pytest.fixture(scope="session")
def web_bundle(web_int8: Path) -> Iterator[str]:
    """The address at which the demo in int8 is served."""
    with serve_folder(web_int8) as address:
        yield address
