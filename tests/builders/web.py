"""A web server on this machine's own address, which counts what it serves."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Served:
    """`url` is of the folder. `bytes` counts bodies; `requests` lists (method, path, range)."""

    def __init__(self) -> None:
        self.url = ""
        self.bytes = 0
        self.requests: list[tuple[str, str, str]] = []


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, *args: Any, served: Served, ranges: bool, folder: str) -> None:
        self._served = served
        self._ranges = ranges
        super().__init__(*args, directory=folder)

    def send_response(self, code: int, message: str | None = None) -> None:
        super().send_response(code, message)
        if self._ranges:
            self.send_header("Accept-Ranges", "bytes")
        else:
            self.send_header("Accept-Ranges", "none")

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self._served.requests.append(("GET", self.path, asked))
        path = self.translate_path(self.path)
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", asked)
        if not (match and self._ranges and os.path.isfile(path)):
            if os.path.isfile(path):
                self._served.bytes += os.path.getsize(path)
            super().do_GET()
            return
        first, last = int(match[1]), int(match[2])
        with open(path, "rb") as file:
            file.seek(first)
            data = file.read(last - first + 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{os.path.getsize(path)}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self._served.bytes += len(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(folder: Path, *, ranges: bool = True) -> Iterator[Served]:
    """A server of a folder's files, with or without ranges."""
    served = Served()
    handler = partial(_Handler, served=served, ranges=ranges, folder=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
