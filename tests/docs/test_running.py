"""The commands that the documentation shows do what it says: the quick ones here, all in `make test-long`."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from itertools import groupby
from pathlib import Path

import pytest

from tests.commands.calls import START, call
from tests.docs.commands import Shown, shown_commands
from tests.docs.places import Kit, local, put
from tests.machine import has_bf16, need

WHOLE = [shown for shown in shown_commands() if shown.is_whole]
PAGES = {page: list(every) for page, every in groupby(WHOLE, key=lambda shown: shown.page)}
QUICK = re.compile(r"satexport (models|targets|run|report)\b|--golden")
SHORTER = {  # the command -> options that only make it shorter
    "bundle": ("--minutes", "0.5", "--no-measure"), "cpu": ("--minutes", "0.5", "--no-measure"),
    "openvino": ("--minutes", "0.5", "--no-measure"), "trt": ("--minutes", "0.5", "--no-measure"),
    "web": ("--minutes", "0.1", "--no-measure"),
    "parity": ("--minutes", "0.5"), "measure": ("--steps", "4", "--pause", "0.01"),
    "paper table1": ("--only", "vit-t*"), "paper table2": ("--only", "vit-t*")}


def skip_reason(shown: Shown) -> str | None:
    """What this machine lacks to run a command, None if nothing."""
    if shown.needs:
        return shown.needs
    if re.search(r"--bf16|openvino-bf16", shown.text) and not has_bf16():
        return "a CPU with bf16"
    return None


def need_packages(shown: Shown, kit: Kit) -> None:
    """Skip if a runtime of the command is not installed."""
    if "openvino" in shown.text:
        need("openvino", "openvino")
    if shown.words[0] == "web":
        kit.request.getfixturevalue("onnxruntime_web")
        kit.request.getfixturevalue("chromium")
    if "--rtx" in shown.text:
        need("tensorrt_rtx", "trt")


def is_first(shown: Shown) -> bool:
    """Is it the first with its words, of those that a test can run?"""
    same = [other for other in WHOLE if other.words == shown.words and not other.needs]
    return shown not in same[1:]


QUICKEST = [shown for shown in WHOLE if QUICK.search(shown.text) and not shown.needs and is_first(shown)
            and not {"sat-s", "build/sat-t-2s/cpu-int8"} & {*shown.words}]


@pytest.mark.parametrize("shown", QUICKEST, ids=str)
def test_a_quick_command_of_the_documentation_works(
        shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        request: pytest.FixtureRequest) -> None:
    monkeypatch.chdir(tmp_path)
    put(Kit(request), tmp_path, shown.words)
    result = call(*map(local, shown.words))
    assert result.code == 0, result.err


@pytest.mark.long
@pytest.mark.parametrize("page", [page for page in PAGES if page.endswith(".md")])
def test_the_commands_of_a_page_work_one_after_another(
        page: str, tmp_path: Path, request: pytest.FixtureRequest, subtests: pytest.Subtests) -> None:
    run_page(page, tmp_path / "work", Kit(request), subtests)


@pytest.mark.long
@pytest.mark.parametrize("page", [page for page in PAGES if page.endswith("--help")])
def test_the_examples_of_a_help_text_work_one_after_another(
        page: str, tmp_path: Path, request: pytest.FixtureRequest, subtests: pytest.Subtests) -> None:
    run_page(page, tmp_path / "work", Kit(request), subtests)


def run_page(page: str, folder: Path, kit: Kit, subtests: pytest.Subtests) -> None:
    """Run the commands of a page in a folder in which an export is there, as the pages before have made."""
    folder.mkdir()
    put(kit, folder, ("build/sat-t-2s/onnx",))
    for shown in PAGES[page]:
        if not is_first(shown):
            continue  # what it would leave behind is there or has a stand-in
        with subtests.test(msg=shown.text):
            if reason := skip_reason(shown):
                pytest.skip(f"needs {reason}: {shown.text}")
            need_packages(shown, kit)
            bundles = put(kit, folder, shown.words)
            run_in(folder, shown)
            for bundle in bundles:
                shutil.rmtree(bundle)


def run_in(folder: Path, shown: Shown) -> None:
    """Run a command through the real command line in a process of its own."""
    start = time.perf_counter()
    words = [*map(local, shown.words)]
    words += SHORTER.get(words[0]) or SHORTER.get(" ".join(words[:2]), ())
    done = subprocess.run([sys.executable, "-c", START, *words], cwd=folder, capture_output=True,
                          encoding="utf-8", check=False)
    print(f"\n{time.perf_counter() - start:6.1f} s, exit code {done.returncode}: {shown.text}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
