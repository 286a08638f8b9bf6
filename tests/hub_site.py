"""A local server that answers like the Hugging Face Hub, for the real huggingface_hub.

Statuses and headers are those that the Hub sends and huggingface_hub 2.4.0 reads (`hf_raise_for_status`,
`get_hf_file_metadata`). As on the Hub, another host serves the files in Git LFS.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LFS = (".safetensors", ".pt", ".pth", ".bin")  # endings of files in Git LFS


class Request(NamedTuple):
    """A request that the server received."""

    method: str
    path: str
    headers: dict[str, str]


class Hub(ThreadingHTTPServer):
    """A Hub: its repositories, its faults, and the requests that it received."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.revisions = {"main": COMMIT, COMMIT: COMMIT}
        self.moves_to = ""           # the commit to which main moves after the repository was listed
        self.gated: set[str] = set()
        self.knows_sha256 = True     # whether it states the SHA-256 of files in Git LFS
        self.states_sha256_of: bytes | None = None  # content whose SHA-256 it states instead of the file's
        self.status = 0              # of every answer, if not 0
        self.lost = 0                # bytes missing at the end of each file in Git LFS
        self.cuts: list[int] = []    # bytes after which the next transfers break off
        self.hold = threading.Event()  # while it is clear, a transfer stops in the middle and waits
        self.hold.set()
        self.requests: list[Request] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def storage(self) -> str:
        """The host that serves files in Git LFS."""
        return f"http://localhost:{self.server_address[1]}"

    @property
    def fetched(self) -> list[str]:
        """The names of the files whose content was requested."""
        return [request.path.rpartition("/")[2] for request in self.requests
                if request.method == "GET" and not request.path.startswith("/api/")]

    def environment(self, folder: Path) -> dict[str, str]:
        """Return the environment of a user of this Hub, with the cache folders in `folder`."""
        return {"HF_ENDPOINT": self.url, "HF_HOME": str(folder / "hf"), "NO_PROXY": "*", "no_proxy": "*",
                "SATEXPORT_CACHE": str(folder / "cache"), "HF_HUB_DISABLE_XET": "1"}


class Answer(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, path = self.server, self.path.partition("?")[0]
        hub.requests.append(Request(self.command, path, dict(self.headers)))
        if hub.status:
            return self._send(hub.status)
        if stored := re.fullmatch(r"/storage/([^/]+/[^/]+)/(.+)", path):
            return self._send_stored(hub.repositories[stored[1]][stored[2]])
        if listed := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            return self._list(listed[1], unquote(listed[2] or "main"))
        if resolved := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._resolve(*map(unquote, resolved.groups()))
        return self._send(404)

    def _refuse(self, repository: str, revision: str) -> bool:
        """Send an error and return True if there is no such repository or revision."""
        if repository not in self.server.repositories:
            if "Authorization" in self.headers:
                self._error(404, "RepoNotFound", "Repository not found")
            else:
                self._error(401, "RepoNotFound", "Invalid username or password.")
        elif revision not in self.server.revisions:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return False
        return True

    def _list(self, repository: str, revision: str) -> None:
        if self.headers.get("Authorization") == "Bearer hf_wrong":
            return self._error(401, "", "Invalid credentials in Authorization header")
        if self._refuse(repository, revision):
            return None
        files = self.server.repositories[repository]
        siblings = [{"rfilename": name, "size": len(content), "blobId": hashlib.sha1(content).hexdigest(),
                     **self._lfs(name, content)} for name, content in files.items()]
        commit = self.server.revisions[revision]
        if self.server.moves_to:
            self.server.revisions["main"] = self.server.moves_to
        return self._send(200, json.dumps({
            "_id": "1", "id": repository, "modelId": repository, "sha": commit,
            "private": False, "gated": "auto" if repository in self.server.gated else False, "tags": [],
            "downloads": 1, "likes": 1, "siblings": siblings}).encode(), {"Content-Type": "application/json"})

    def _lfs(self, name: str, content: bytes) -> dict[str, dict[str, object]]:
        """Return what a listing states about a file in Git LFS; empty for other files."""
        if not self.server.knows_sha256 or not name.endswith(LFS):
            return {}
        sha256 = hashlib.sha256(self.server.states_sha256_of or content).hexdigest()
        return {"lfs": {"sha256": sha256, "size": len(content), "pointerSize": 134}}

    def _resolve(self, repository: str, revision: str, file: str) -> None:
        if self._refuse(repository, revision):
            return None
        commit = {"X-Repo-Commit": self.server.revisions[revision]}
        if repository in self.server.gated:
            status = 403 if "Authorization" in self.headers else 401
            return self._error(status, "GatedRepo", f"Access to model {repository} is restricted.")
        content = self.server.repositories[repository].get(file)
        if content is None:
            return self._error(404, "EntryNotFound", "Entry not found", commit)
        if not file.endswith(LFS):
            return self._send(200, content, commit | {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'})
        digest = hashlib.sha256 if self.server.knows_sha256 else hashlib.sha1
        return self._send(302, b"", commit | {
            "X-Linked-Etag": f'"{digest(content).hexdigest()}"', "X-Linked-Size": str(len(content)),
            "Location": f"{self.server.storage}/storage/{repository}/{file}"})

    def _error(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps({"error": message}).encode(), (headers or {}) | {
            "X-Error-Code": code, "X-Error-Message": message})

    def _send(self, status: int, content: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _send_stored(self, content: bytes) -> None:
        """Send a file in Git LFS, starting at the byte that the request names."""
        hub, span = self.server, re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start, end = int(span[1]) if span else 0, len(content) - hub.lost
        self.close_connection = True
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        self.end_headers()
        stop = start + hub.cuts.pop(0) if hub.cuts else end
        middle = (start + stop) // 2
        self.wfile.write(content[start:middle])
        hub.hold.wait()
        self.wfile.write(content[middle:stop])

    def log_message(self, *_: object) -> None:
        pass
