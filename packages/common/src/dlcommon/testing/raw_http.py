"""Sends requests to a server under test, byte by byte: also those that no HTTP client would send."""

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

PREDICT = "/v1/predict"
PATIENCE = 600.0
"""Seconds that a test waits for an answer."""


@dataclass(frozen=True)
class Reply:
    """Holds an HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Target:
    """Sends requests to a server under test, whose `--timeout` bounds how long the slow clients take."""

    address: tuple[str, int]
    example: dict[str, Any]
    """A good item."""
    upload: str | None
    """The item's field that an uploaded file fills."""
    token: str | None = None
    max_items: int = 64
    max_bytes: int = 10 * 2**20

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=PATIENCE)

    def head(self, method: str, path: str, headers: dict[str, str]) -> bytes:
        default = {"Host": f"{self.address[0]}:{self.address[1]}", "Connection": "close"}
        if self.token:
            default["Authorization"] = f"Bearer {self.token}"
        lines = [f"{name}: {value}" for name, value in {**default, **headers}.items()]
        return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin-1")

    def post_head(self, body: bytes, **headers: str) -> bytes:
        """Returns the head of a prediction request with this JSON body."""
        known = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        return self.head("POST", PREDICT, {**known, **headers})

    def exchange(self, parts: "bytes | Iterator[bytes]") -> Reply | None:
        """Sends raw bytes and reads the answer; None where the connection ends without one."""
        with self.connect() as connection:
            try:
                for part in [parts] if isinstance(parts, bytes) else parts:
                    connection.sendall(part)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the server has answered and closed before it was told everything
            return read_reply(connection)

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent.setdefault("Content-Length", str(len(body)))
        reply = self.exchange(self.head(method, path, sent) + body)
        assert reply is not None, f"no answer to {method} {path}"
        return reply

    def post(self, body: bytes, content_type: str = "application/json") -> Reply:
        return self.request("POST", PREDICT, body, Content_Type=content_type)

    def post_items(self, items: Any) -> Reply:
        return self.post(json.dumps({"items": items}).encode())

    def metric(self, series: str) -> float:
        """Returns the sum of a metric's samples: of all its labels, or of those that are named with it."""
        text = self.request("GET", "/metrics").body.decode()
        labels = "" if "{" in series else r"(?:\{[^}]*\})?"
        samples = re.findall(rf"^{re.escape(series)}{labels} (\S+)$", text, re.MULTILINE)
        return sum(float(sample) for sample in samples)

    def wait_for_items(self, outcome: str, count: int) -> None:
        """Waits until this many items have had the outcome, such as 'abandoned'."""
        wait_until(lambda: self.metric(f'dl_items_total{{outcome="{outcome}"}}') == count)

    def check_alive(self) -> None:
        """Checks that a good request is answered."""
        assert self.request("GET", "/healthz").status == 200
        reply = self.post_items([self.example])
        assert reply.status == 200, reply.body


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits for what another process is about to do.

    Raises:
        AssertionError: the condition did not come true within `PATIENCE`.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


def read_reply(connection: socket.socket) -> Reply | None:
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
            reply = _parsed(received)
            if reply is not None:
                return reply
    except ConnectionResetError:
        pass
    return _parsed(received, ended=True)


def _parsed(received: bytes, ended: bool = False) -> Reply | None:
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return None
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    whole = ended or ("content-length" in headers and len(body) >= int(headers["content-length"]))
    return Reply(int(lines[0].split()[1]), headers, body) if whole else None
