"""Stands in for a reverse proxy, with the headers that real ones send by default.

with ReverseProxy(server.address, nginx_default, prefix="/digits") as proxy:
    httpx.get(f"{proxy.url}/healthz")
"""

import http.client
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

Forwarded = Callable[[str, str, str], Mapping[str, str]]
"""Returns the headers that a proxy sets, given Host as it was sent, the server's own address, and the path's prefix."""


def nginx_default(host: str, server: str, prefix: str) -> Mapping[str, str]:
    """`proxy_pass` alone."""
    return {"Host": server}


def nginx_host(host: str, server: str, prefix: str) -> Mapping[str, str]:
    """`proxy_set_header Host $host`, which many guides name; it drops the port."""
    return {"Host": host.partition(":")[0]}


def caddy(host: str, server: str, prefix: str) -> Mapping[str, str]:
    """`reverse_proxy`."""
    return {"Host": host, "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": host, "X-Forwarded-Proto": "http"}


def apache(host: str, server: str, prefix: str) -> Mapping[str, str]:
    """`ProxyPass`."""
    return {"Host": server, "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": host, "X-Forwarded-Server": "front"}


def traefik(host: str, server: str, prefix: str) -> Mapping[str, str]:
    """The middleware `stripPrefix`."""
    return {**caddy(host, server, prefix), **({"X-Forwarded-Prefix": prefix} if prefix else {})}


def hugging_face(host: str, server: str, prefix: str) -> Mapping[str, str]:
    """The front of a Space, which takes TLS off."""
    return {"Host": host, "X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "443"}


PROXIES: tuple[Forwarded, ...] = (nginx_default, nginx_host, caddy, apache, traefik, hugging_face)


class ReverseProxy:
    """Passes on to a server what is asked for below a prefix of its own address, and takes the prefix off the path.

    Args:
        server: host and port behind it.
        forwarded: one of `PROXIES`.
        prefix: such as /digits.
        strips: whether the prefix is taken off the path.
    """

    def __init__(self, server: tuple[str, int], forwarded: Forwarded, prefix: str = "", strips: bool = True) -> None:
        self.server, self.forwarded, self.prefix, self.strips = server, forwarded, prefix, strips
        self.refused: list[str] = []
        """Requests outside the prefix, which end here with 404."""

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._listening = _Threads(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._listening.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.shutdown()
        self._thread.join()
        self._listening.server_close()

    @property
    def url(self) -> str:
        """Returns the address that clients know, without a slash at the end."""
        return f"http://127.0.0.1:{self._listening.server_port}{self.prefix}"


class _Threads(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing: browsers hang up as they leave."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: ReverseProxy

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: tests read stderr."""

    def _pass_on(self) -> None:
        path, prefix = self.path, self.proxy.prefix
        if not path.startswith(f"{prefix}/"):
            self.proxy.refused.append(f"{self.command} {path}")
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        host, port = self.proxy.server
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        own = self.proxy.forwarded(self.headers.get("Host", ""), f"{host}:{port}", prefix)
        set_here = {name.lower() for name in own} | {"connection", "host"}
        sent = {name: value for name, value in self.headers.items() if name.lower() not in set_here}
        connection = http.client.HTTPConnection(host, port, timeout=600)
        try:
            taken_off = path.removeprefix(prefix) if self.proxy.strips else path
            connection.request(self.command, taken_off, body or None, {**sent, **own})
            self._send(connection.getresponse())
        finally:
            connection.close()
            self.close_connection = True

    def _send(self, answer: http.client.HTTPResponse) -> None:
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "date"):
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        while chunk := answer.read1(65536):
            self.wfile.write(chunk)
            self.wfile.flush()

    def do_GET(self) -> None:
        self._pass_on()

    def do_POST(self) -> None:
        self._pass_on()
