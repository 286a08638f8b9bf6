"""A local server that replaces the network; each test sets its answers."""

from __future__ import annotations

import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY = bytes(range(256)) * 40  # 10 240 bytes


class Site(ThreadingHTTPServer):
    """The next answers of the server, and the requests that it received."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.body = BODY
        self.headers = {"ETag": '"1"', "Content-Type": "application/octet-stream"}
        self.status = 200
        self.ranges = True      # supports Range
        self.if_range = True    # respects If-Range
        self.shift = 0          # offset in bytes between the requested and the sent range
        self.chunked = False    # sends no Content-Length
        self.cuts: list[int] = []  # bytes after which the next answers are interrupted
        self.asked: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        site = self.server
        site.asked.append({"path": self.path, **self.headers})
        self.close_connection = True
        if site.status != 200:
            return self.send_error(site.status)
        start, total = 0, len(site.body)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") == site.headers.get("ETag") or not site.if_range
        if asked and site.ranges and same:
            start = int(asked[1]) + site.shift
            if start >= total:
                return self.send_error(416)
        self.send_response(206 if start else 200)
        for key, value in site.headers.items():
            self.send_header(key, value)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        sent = site.body[start:][:site.cuts.pop(0) if site.cuts else total]
        if site.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            end = b"0\r\n\r\n" if len(sent) == total - start else b""
            sent = b"%x\r\n%s\r\n%s" % (len(sent), sent, end)
        else:
            self.send_header("Content-Length", str(total - start))
        self.end_headers()
        self.wfile.write(sent)
        return None

    def log_message(self, *_: object) -> None:
        pass
