"""The module checks every file of a bundle before it uses it, also on a page that has no `crypto.subtle`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from satexport.backends.web import server
from satexport.backends.web.server import Handler, serve_folder
from satexport.bundle.contract import Contract
from satexport.bundle.folder import write_manifest
from satexport.bundle.roles import roles_from_json
from satexport.bundle.target import Target
from tests.backends.web.tab import Tab

LOAD = """
    return await attempt(async () => {
        const {load} = await import('/satexport.js');
        const model = await load();
        try { if (given) await model.prove(); } finally { model.close(); }
    });
"""


@pytest.fixture(scope="module")
def folder(web_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a small bundle."""
    folder = tmp_path_factory.mktemp("web") / "bundle"
    folder.mkdir()
    for path in web_tiny.iterdir():
        if path.is_file():
            os.link(path, folder / path.name)
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with serve_folder(folder) as address:
        yield address


def load(browser: Any, address: str, prove: bool = False) -> dict[str, str] | None:
    """Load the bundle in a browser without a cache, and prove it. Returns the error."""
    context = browser.new_context()
    try:
        found: dict[str, str] | None = Tab(context, address).run(LOAD, prove)
        return found
    finally:
        context.close()


def change(path: Path, content: bytes | None) -> None:
    """Replace a file, or remove it; other links to it keep its content."""
    path.unlink()
    if content is not None:
        path.write_bytes(content)


def flip(content: bytes) -> bytes:
    """Change one bit in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1:]


def seal(folder: Path) -> None:
    """Write bundle.json for changed files."""
    fields = json.loads((folder / "bundle.json").read_text("utf-8"))
    change(folder / "bundle.json", None)
    write_manifest(folder, Contract.from_dict(fields["contract"]), Target.from_dict(fields["target"], folder),
                   fields["graph"], fields["operations"], roles_from_json(fields["roles"]))


@pytest.fixture
def restore(folder: Path) -> Iterator[None]:
    contents = {path: path.read_bytes() for path in folder.iterdir()}
    yield
    for path, content in contents.items():
        if not path.exists() or path.read_bytes() != content:
            path.unlink(missing_ok=True)
            path.write_bytes(content)


PARTS = ("model.onnx", "model.onnx.data", "labels.txt", "initial_cache.npy", "golden.npz", "resample.js",
         "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")


def test_an_unchanged_folder_is_loaded_and_in_fp32_its_golden_chunks_are_pytorchs(
        browser: Any, address: str) -> None:
    context = browser.new_context()
    proof = Tab(context, address).run("""
        const {load} = await import('/satexport.js');
        const model = await load();
        try { return await model.prove(); } finally { model.close(); }
    """)
    context.close()
    assert (proof["largest"] < 1e-4, proof["top1"]) == (True, 1), proof


@pytest.mark.parametrize("name", [
    name if name in ("model.onnx.data", "golden.npz", "resample.js") else
    pytest.param(name, marks=pytest.mark.long) for name in PARTS])
def test_a_changed_file_is_named_and_not_used(
        browser: Any, folder: Path, address: str, restore: None, name: str) -> None:
    path = folder / name
    if name == "resample.js":
        change(path, path.read_bytes().replace(b"Resample a", b"resample a", 1))
    else:
        change(path, flip(path.read_bytes()))
    error = load(browser, address, prove=name == "golden.npz")
    assert error
    assert error["kind"] == "bundle"
    assert f"{name} was modified: its SHA-256 does not match bundle.json" in error["message"]


def test_a_missing_file_and_a_cut_one_are_named(
        browser: Any, folder: Path, address: str, restore: None) -> None:
    labels = (folder / "labels.txt").read_bytes()
    change(folder / "labels.txt", None)
    error = load(browser, address)
    assert error
    assert (error["kind"], "labels.txt is missing: " in error["message"]) == ("bundle", True)
    change(folder / "model.onnx", (folder / "model.onnx").read_bytes()[:-1])
    (folder / "labels.txt").write_bytes(labels)
    error = load(browser, address)
    assert error
    assert "model.onnx was modified: it has " in error["message"]


def test_a_manifest_without_its_seal_is_refused(
        browser: Any, folder: Path, address: str, restore: None) -> None:
    path = folder / "bundle.json"
    text = path.read_bytes()
    for changed, message in (
            (text.replace(b'"hop_samples": 32000', b'"hop_samples": 16000'), "bundle.json was modified"),
            (text.replace(b'"schema": 6', b'"schema": 5', 1), "has schema 5"), (text[:-3], "is not JSON"),
            (None, "bundle.json is missing")):
        assert changed != text
        change(path, changed)
        error = load(browser, address)
        assert error
        assert error["kind"] == "bundle"
        assert message in error["message"]
        path.write_bytes(text)


def test_a_graph_that_the_runtime_cannot_run_is_named(
        browser: Any, folder: Path, address: str, restore: None) -> None:
    import onnx

    model = onnx.load(folder / "model.onnx", load_external_data=False)
    model.graph.node[-1].op_type = "HardlyKnown"
    change(folder / "model.onnx", model.SerializeToString())
    seal(folder)
    error = load(browser, address)
    assert error
    assert error["kind"] == "bundle"
    assert "cannot load model.onnx" in error["message"]
    assert "HardlyKnown" in error["message"]


class Proxy(Handler):
    """Serves the folder for every host: the browser takes it for a proxy. Only so does a test have a page of
    another machine over plain http, which lacks `crypto.subtle`."""

    def translate_path(self, path: str) -> str:
        return super().translate_path(urlsplit(path).path)


def test_a_page_over_plain_http_checks_hashes_itself(
        browser: Any, folder: Path, restore: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "Handler", Proxy)
    with serve_folder(folder) as address:
        context = browser.new_context(proxy={"server": address})
        tab = Tab(context, "http://another.test")
        assert tab.run("return [isSecureContext, typeof crypto.subtle]") == [False, "undefined"]
        assert tab.run(LOAD) is None
        change(folder / "model.onnx", flip((folder / "model.onnx").read_bytes()))
        error = tab.run(LOAD)
        context.close()
    assert "model.onnx was modified" in error["message"]


class Kept(Handler):
    """Lets a browser keep files for an hour, as many servers do. The backend's own server does not, so that
    no other test meets an older file in the browser's cache."""

    def send_header(self, keyword: str, value: str) -> None:
        super().send_header(keyword, "max-age=3600" if keyword == "Cache-Control" else value)


def test_older_files_in_the_browsers_cache_are_replaced_and_older_code_is_told(
        browser: Any, folder: Path, restore: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "Handler", Kept)
    context = browser.new_context()
    with serve_folder(folder) as address:
        tab = Tab(context, address)
        assert tab.run(LOAD) is None
        for name, added in (("resample.js", b"// newer\n"), ("labels.txt", b"")):
            text = (folder / name).read_bytes()
            change(folder / name, text + added if added else text.replace(b"Speech", b"Talk", 1))
        seal(folder)
        message = "the browser had kept an older resample.js. Reload the page."
        assert tab.run(LOAD) == {"kind": "bundle", "message": message}
        tab.page.reload()
        assert tab.run(LOAD) is None
    context.close()


class Foreign(Handler):
    """Lets pages of other origins import its modules, as servers for files of others' pages do."""

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()


def test_a_folder_on_another_origin_is_refused_with_what_to_do(
        browser: Any, folder: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "Handler", Foreign)
    context = browser.new_context()
    with serve_folder(folder) as other:
        error = Tab(context, address).run(LOAD.replace("'/satexport.js'", f"'{other}/satexport.js'"))
    context.close()
    assert error["kind"] == "use"
    assert f"starts no Worker from {other}/worker.js" in error["message"]
    assert f"on the server of this page, {address}. Copy it there." in error["message"]


@pytest.mark.parametrize(("lacking", "message"), [
    ("delete globalThis.Worker", "has no Workers from JavaScript modules"),
    ("WebAssembly.validate = () => false", "has no vector instructions of WebAssembly (SIMD)"),
    ("delete globalThis.WebAssembly", "has no WebAssembly"),
    ("delete globalThis.DecompressionStream", "has no DecompressionStream for raw deflate")])
def test_a_browser_that_lacks_something_is_told_which_to_use(
        browser: Any, address: str, lacking: str, message: str) -> None:
    context = browser.new_context()
    error = Tab(context, address).run(f"{lacking}; {LOAD}")
    context.close()
    assert error["kind"] == "browser"
    assert message in error["message"]
    assert "Use Chrome or Edge 105, Firefox 121, Safari 16.4, or newer." in error["message"]


def test_the_sealed_list_has_every_module_that_the_model_runs(web_tiny: Path) -> None:
    code = (web_tiny / "satexport.js").read_text("utf-8")
    listed = set(json.loads(code.split("const CODE = ")[1].split(";")[0].replace("'", '"')))
    found, waiting = {"worker.js"}, ["worker.js", "satexport.js"]
    while waiting:
        name = waiting.pop()
        found.add(name)
        text = (web_tiny / name).read_text("utf-8")
        waiting += [part for part in (line.split("from './")[1].split("'")[0] for line in text.splitlines()
                                      if line.startswith("import ")) if part not in found]
    assert listed == found
