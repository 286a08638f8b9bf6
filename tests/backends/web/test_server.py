"""`satexport web --serve`: a bundle on the loopback address, with the headers that threads need."""

from __future__ import annotations

import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from satexport.backends.web.server import serve_folder
from satexport.errors import UsageError
from tests.commands.calls import call, start


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    for name in ("index.html", "page.js", "runtime.mjs", "runtime.wasm", "labels.txt"):
        (tmp_path / "site" / name).write_text(name)
    (tmp_path / "secret").write_text("not in the folder")
    return tmp_path / "site"


def test_files_have_their_types_and_the_headers_of_isolation(folder: Path) -> None:
    types = {"": "text/html; charset=utf-8", "page.js": "text/javascript", "runtime.mjs": "text/javascript",
             "runtime.wasm": "application/wasm", "labels.txt": "text/plain; charset=utf-8"}
    with serve_folder(folder) as address:
        assert address.startswith("http://127.0.0.1:")
        for name, expected in types.items():
            with urllib.request.urlopen(f"{address}/{name}") as answer:
                assert answer.read().decode() == (name or "index.html")
                assert answer.headers["Content-Type"] == expected
                assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
                assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"


@pytest.mark.parametrize("path", ["../secret", "%2e%2e/secret", "absent"])
def test_nothing_outside_the_folder_is_served(folder: Path, path: str) -> None:
    with serve_folder(folder) as address, pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{address}/{path}")


def test_a_port_in_use_is_said(folder: Path) -> None:
    with serve_folder(folder) as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(UsageError, match=rf"port {port} cannot be used.*choose another --port"), \
                serve_folder(folder, port):
            pass


def test_ctrl_c_ends_it_without_an_error(web_int8: Path) -> None:
    with start("web", "--serve", web_int8, "--port", 0) as process:
        assert process.stderr
        line = process.stderr.readline()
        address = line.split()[3]
        with urllib.request.urlopen(f"{address}bundle.json") as answer:
            assert answer.read() == (web_int8 / "bundle.json").read_bytes()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (0, "", "")
    assert line == f"sat-t-2s / web-int8: {address}   Ctrl-C ends it.\n"


def test_a_bundle_without_a_page_is_refused(demo: Path) -> None:
    result = call("web", "--serve", demo)
    assert result.code == 4
    assert "is for onnxruntime and has no page; expected a bundle that `satexport web` makes" in result.err


def test_serve_takes_no_options_of_a_new_bundle(demo: Path) -> None:
    result = call("web", "--serve", demo, "--int8")
    assert result.code == 2
    assert "--serve takes a bundle that exists and only --port beside it; found --int8" in result.err
    assert call("web", "--port", 8001).code == 2
