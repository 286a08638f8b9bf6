"""A tab of a headless Chromium, driven by Playwright. Playwright works only in the thread that started it, so
each tab has a thread of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from satexport.backends.web.server import ISOLATION
from satexport.errors import MissingError, RunError
from satexport.runtimes import check_version, import_runtime

PACKAGE = "playwright"
MIN_VERSION = 1, 49
EXTRA = "web"
CHROMIUM = "SATEXPORT_CHROMIUM"  # variable: the path of the browser
NAMES = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"
FLAGS = (  # no traffic of its own (the first alone leaves some), no use of a GPU
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
    "--disable-quic", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-gpu")
SINGLE_RENDERER = "--renderer-process-limit=1"  # no spare one, whose memory would count
FOLDERS = "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"  # variables: where it keeps files
BLANK = "blank.html"  # a path that no bundle has; a page there may import the modules of the bundle
T = TypeVar("T")


def find_chromium() -> str:
    """Return the path of $SATEXPORT_CHROMIUM, or of an installed Chromium or Chrome. Raises `MissingError` if
    there is none."""
    if chosen := os.environ.get(CHROMIUM):
        if found := shutil.which(chosen):
            return found
        raise MissingError(f"${CHROMIUM} is {chosen}, where no program is; expected the path of Chromium or "
                           "Chrome. Correct it, or unset it to use an installed one.")
    for name in NAMES:
        if found := shutil.which(name):
            return found
    raise MissingError("Chromium is not installed, which runs a web bundle on this machine: install it "
                       f"(Debian: apt install chromium), or name another with {CHROMIUM}=PATH.")


class Tab:
    """A tab with an empty page of the server at `address`. Raises `MissingError` if Chromium or Playwright is
    not installed, `RunError` if the browser does not start."""

    def __init__(self, address: str) -> None:
        chromium = find_chromium()
        try:
            api = import_runtime(f"{PACKAGE}.sync_api")
            version = import_runtime(f"{PACKAGE}._repo_version").version
        except ImportError:
            raise MissingError("Playwright is not installed, which drives Chromium: "
                               f"pip install 'satexport[{EXTRA}]'.") from None
        check_version("Playwright", version, MIN_VERSION, EXTRA)
        self._error: type[Exception] = api.Error
        self._thread = ThreadPoolExecutor(1, "browser")
        self._driver: Any = None
        try:
            self.version: str = self._run(lambda: self._open(api, chromium, f"{address}/{BLANK}"))
        except BaseException:
            self.close()
            raise

    def evaluate(self, function: str, argument: object = None) -> Any:
        """Call a JavaScript function in the tab with an argument of JSON types, and return its result. Raises
        `RunError` if it throws, or if the browser has ended."""
        return self._run(lambda: self._page.evaluate(function, argument))

    def processes(self) -> list[dict[str, Any]]:
        """Return the renderers: `id` of the process, `cpuTime` in s."""
        facts = self._run(lambda: self._browser_session.send("SystemInfo.getProcessInfo"))
        return [process for process in facts["processInfo"] if process["type"] == "renderer"]

    def close(self) -> None:
        """End the browser. A second call does nothing."""
        with suppress(RunError, RuntimeError):
            self._run(self._end)
        self._thread.shutdown()

    def _open(self, api: Any, chromium: str, blank: str) -> str:
        self._driver = api.sync_playwright().start()
        self._folder = tempfile.TemporaryDirectory(  # nothing stays in the user's own
            prefix="satexport-", ignore_cleanup_errors=True)
        try:
            browser = self._driver.chromium.launch(
                executable_path=chromium, args=[*chromium_flags(), SINGLE_RENDERER], timeout=60_000,
                env={**os.environ, **dict.fromkeys(FOLDERS, self._folder.name)})
        except api.Error as error:
            raise RunError(f"{chromium} does not start as a browser ({_first_line(error)}). Install Chromium "
                           f"again, or name another with {CHROMIUM}=PATH.") from None
        self._browser_session = browser.new_browser_cdp_session()
        self._page = browser.new_page()
        self._page.route(blank, lambda route: route.fulfill(
            body="<!doctype html><title>satexport</title>", content_type="text/html", headers=ISOLATION))
        self._page.goto(blank)
        return str(browser.version)

    def _end(self) -> None:
        driver, self._driver = self._driver, None
        if driver:
            try:
                driver.stop()
            finally:
                self._folder.cleanup()

    def _run(self, call: Callable[[], T]) -> T:
        """Run in the thread of the tab."""
        try:
            return self._thread.submit(call).result()
        except self._error as error:
            if "has been closed" in str(error) or "crashed" in str(error):
                raise RunError("the browser has ended: somebody closed it, or memory ran out. End other "
                               "programs and try again.") from None
            raise RunError(f"the browser failed ({_first_line(error)}). Try again; if it stays, try another "
                           "version of Chromium.") from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def chromium_flags() -> list[str]:
    """Return the flags to start Chromium with. For root it has no sandbox."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return [*FLAGS, *(["--no-sandbox"] if is_root else [])]


def resident_size(process: int, key: str) -> int:
    """Return VmRSS (now) or VmHWM (peak) of a process in bytes; 0 if the system does not tell."""
    try:
        lines = Path(f"/proc/{process}/status").read_text("ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), 0)
