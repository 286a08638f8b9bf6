"""ONNX Runtime Web comes from its npm package once, or by hand, and only with the right SHA-256."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from satexport.backends.web import runtime
from satexport.backends.web.runtime import RuntimeFile, find_runtime, runtime_folder
from satexport.errors import DataError, MissingError, RunError
from tests.browser import lack

CONTENTS = {"a.mjs": b"export const a = 1;\n", "b.wasm": b"\0asm" + bytes(1000)}


class Registry(ThreadingHTTPServer):
    """An npm registry with one package."""

    daemon_threads = True

    def __init__(self, contents: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[str] = []
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            about = json.dumps({"name": runtime.PACKAGE, "version": runtime.VERSION}).encode()
            files = {"package.json": about} | {f"dist/{name}": content for name, content in contents.items()}
            for name, content in files.items():
                entry = tarfile.TarInfo(f"package/{name}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        self.package = buffer.getvalue()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        body = self.server.package
        if not self.path.endswith(".tgz"):
            sha512 = base64.b64encode(hashlib.sha512(body).digest()).decode()
            version = {"name": runtime.PACKAGE, "version": runtime.VERSION, "dist": {
                "tarball": f"{self.server.url}/{runtime.PACKAGE}.tgz", "integrity": f"sha512-{sha512}"}}
            body = json.dumps({"name": runtime.PACKAGE, "versions": {runtime.VERSION: version},
                               "dist-tags": {"latest": runtime.VERSION}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder's folder of the runtime; its files are small ones."""
    monkeypatch.setenv("SATEXPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(runtime, "FILES", tuple(
        RuntimeFile(name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in CONTENTS.items()))
    return runtime_folder()


@pytest.fixture
def contents() -> dict[str, bytes]:
    """The files of the package in the registry."""
    return dict(CONTENTS)


@pytest.fixture
def registry(contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    if not shutil.which("npm"):
        lack("needs npm")
    with Registry(contents) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        monkeypatch.setenv("npm_config_registry", server.url)
        yield server
        server.shutdown()


def test_the_files_are_fetched_once(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {path.name: path.read_bytes() for path in find_runtime()} == CONTENTS
    asked = len(registry.asked)
    monkeypatch.setenv("PATH", "")  # no npm
    assert [path.name for path in find_runtime()] == list(CONTENTS)
    assert len(registry.asked) == asked


def test_files_put_there_by_hand_are_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    folder.mkdir(parents=True)
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)
    assert [path.read_bytes() for path in find_runtime()] == list(CONTENTS.values())


def test_without_npm_the_error_says_where_to_put_the_files(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingError, match=r"npm is not installed.*install Node\.js") as caught:
        find_runtime()
    assert f"put a.mjs and b.wasm of onnxruntime-web 1.30.0 into {folder} by hand" in str(caught.value)
    assert not folder.exists()


def test_a_damaged_file_is_refused(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content[:-1] + b"?")
    with pytest.raises(DataError, match=r"a\.mjs has the SHA-256 .*, that of onnxruntime-web 1\.30\.0 is "
                                        r".*Remove it to fetch it again"):
        find_runtime()


@pytest.mark.parametrize("change", [{"a.mjs": b"export const a = 2;\n"}, {"a.mjs": b"x" * 1000}, None])
def test_a_package_with_another_content_is_refused_and_nothing_kept(
        change: dict[str, bytes] | None, contents: dict[str, bytes], folder: Path,
        request: pytest.FixtureRequest) -> None:
    contents.update(change or {})
    if change is None:
        del contents["a.mjs"]
    request.getfixturevalue("registry")
    with pytest.raises(RunError, match=r"has no usable dist/a\.mjs.*check npm's registry"):
        find_runtime()
    assert not folder.exists()


def test_a_registry_that_cannot_be_reached_is_said(
        registry: Registry, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    with pytest.raises(RunError, match=r"npm cannot fetch onnxruntime-web .*ECONNREFUSED") as caught:
        find_runtime()
    assert f"into {folder} by hand" in str(caught.value)
    assert not folder.exists()


@pytest.mark.parametrize("mark", ["npm error", "npm ERR!"])
def test_the_reason_is_the_first_sentence_of_npm(mark: str) -> None:
    """npm 9, which Debian 12 has, marks its errors in another way than npm 11."""
    output = "\n".join([f"{mark} code ENOTFOUND", f"{mark} errno ENOTFOUND", f"{mark} no such host.", "more"])
    assert runtime._reason(output) == "no such host"
