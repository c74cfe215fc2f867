"""A local web server that fails in the ways that real ones do."""

import hashlib
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal, Self

Fault = Literal["stall", "break", "no-ranges", "slow", "endless"]
"""stall and break: half of what was asked for, then silence or a closed connection; endless: the file again and again,
without a stated length."""


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]


@dataclass
class FaultyServer:
    """Serves `files` by path, ranges included; each request uses up the next of its path's faults.

    A fault may also be a status code, or a status code and headers.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Fault | int | tuple[int, dict[str, str]]]] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    """More response headers, by path."""
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stopping = threading.Event()
        handler = type("Handler", (_Handler,), {"server_state": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/"

    def asked(self, path: str, method: str = "GET") -> list[Request]:
        return [request for request in self.requests if (request.method, request.path) == (method, path)]

    def serve_hub_file(
        self,
        repository: str,
        name: str,
        content: bytes,
        commit: str = "0" * 40,
        kind: str = "dataset",
        lfs: bool = True,
    ) -> str:
        """Serves a file as the Hugging Face hub does; returns its path here.

        The library asks for `main` first, and for the commit that it was told from then on.

        Args:
            lfs: large files are stored beside git, which the hub states a sha256 of; of the others git's own id.
        """
        linked = {"X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Linked-Size": str(len(content))}
        blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
        folder = f"/datasets/{repository}" if kind == "dataset" else f"/{repository}"
        for revision in ("main", commit):
            path = f"{folder}/resolve/{revision}/{name}"
            self.files[path] = content
            self.headers[path] = {"X-Repo-Commit": commit, **(linked if lfs else {"ETag": f'"{blob}"'})}
        return f"{folder}/resolve/main/{name}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing: clients that hang up are a part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: FaultyServer

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: tests read stderr."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        state = self.server_state
        sent = {key.lower(): value for key, value in self.headers.items()}
        state.requests.append(Request(self.command, self.path, sent))
        faults = state.faults.get(self.path, [])
        fault = faults.pop(0) if faults else None
        content = state.files.get(self.path)
        if isinstance(fault, tuple):
            return self._refuse(*fault)
        if isinstance(fault, int):
            return self._refuse(fault, {})
        if content is None:
            return self._refuse(404, {})
        start = re.fullmatch(r"bytes=(\d+)-", sent.get("range", "")) if fault != "no-ranges" else None
        first = int(start[1]) if start else 0
        if start and first >= len(content):
            return self._refuse(416, {"Content-Range": f"bytes */{len(content)}"})
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        for key, value in state.headers.get(self.path, {}).items():
            self.send_header(key, value)
        if fault == "endless":
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        if with_body:
            self._send_body(content[first:], fault)
        return None

    def _send_body(self, body: bytes, fault: Fault | None) -> None:
        while fault == "endless" and not self.server_state._stopping.is_set():
            self.wfile.write(body)  # fails once the client hangs up
        half = len(body) // 2
        self.wfile.write(body[:half])
        self.wfile.flush()
        if fault == "break":
            self.close_connection = True
            return
        if fault == "stall":
            self.server_state._stopping.wait()
            self.close_connection = True
            return
        if fault == "slow":
            self.server_state._stopping.wait(1.5)
        self.wfile.write(body[half:])

    def _refuse(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": "0", **headers}.items():
            self.send_header(key, value)
        self.end_headers()
