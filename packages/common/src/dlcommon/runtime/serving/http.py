"""Runs uvicorn with bounds on connections and slow headers, and with a graceful stop that ends in bounded time."""

import asyncio
import json
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import FrameType

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from dlcommon.runtime.errors import UserError
from dlcommon.runtime.serving.clients import MAX_CONNECTIONS
from dlcommon.runtime.serving.guard import RequestGuard
from dlcommon.runtime.serving.settings import ServeConfig

HEAD_BYTES = 16 * 1024
"""Size of the request line and the headers together."""
HEAD_SECONDS = 10.0
"""Time for the head to arrive, counted from its first byte."""
DRAIN_SECONDS = 5.0
"""Time for a client to finish sending what has been refused already, so that it gets to read the refusal."""
LINGER_SECONDS = 5
"""Time for the last bytes of answers to leave once all work is done or interrupted."""
LAST_CALL_SECONDS = 2.0
"""Time for what still runs on threads once the server has ended."""


def _canned(status: str, code: str, message: str, *headers: str) -> bytes:
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "connection: close", "", ""]).encode() + body


_TOO_MANY = _canned("503 Service Unavailable", "overloaded", "too many connections", "retry-after: 1")
_TOO_SLOW = _canned("408 Request Timeout", "too_slow", "the headers did not arrive in time")
_MALFORMED = _canned(
    "400 Bad Request", "malformed", f"this is not HTTP/1.1, or its headers are longer than {HEAD_BYTES} bytes"
)


class BoundedHttp(H11Protocol):
    """Adds to uvicorn's HTTP protocol time limits for headers and for refused bodies."""

    head_seconds = HEAD_SECONDS
    _deadline: asyncio.TimerHandle | None = None
    _idle_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= MAX_CONNECTIONS and not self._make_room():
            transport.write(_TOO_MANY)
            transport.close()
            self.transport = transport
            return
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._set_deadline(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            super().data_received(data)

    def handle_events(self) -> None:
        super().handle_events()
        if self.transport.is_closing():
            self._set_deadline(None)
        elif self.conn.their_state is h11.IDLE:
            if self.conn.trailing_data[0]:
                self._expect_head()
            elif self.cycle is not None:
                self._set_deadline(None)
        elif not (self.conn.their_state is h11.SEND_BODY and self.cycle.response_complete):
            self._set_deadline(None)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._idle_since = self.loop.time()
        if self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
            self._set_deadline(DRAIN_SECONDS)

    def send_400_response(self, msg: str) -> None:
        self.transport.write(_MALFORMED)
        self.transport.close()

    @property
    def is_idle(self) -> bool:
        """Says whether no request is being read or answered."""
        return self.conn.their_state is h11.IDLE and (self.cycle is None or self.cycle.response_complete)

    def _make_room(self) -> bool:
        """Closes the idle connection that is idle longest, of the address that has the most; says if there is one.

        So whoever holds all places without asking for anything only drives out itself.
        """
        others = [one for one in self.connections if isinstance(one, BoundedHttp)]
        idle = [one for one in others if one.is_idle]
        held = Counter(one.client[0] if one.client else "" for one in others)
        longest = max(idle, key=lambda one: (held[one.client[0] if one.client else ""], -one._idle_since), default=None)
        if longest is None:
            return False
        longest.transport.close()
        self.connections.discard(longest)
        return True

    def _expect_head(self) -> None:
        if self._deadline is None:
            self._set_deadline(self.head_seconds)

    def _set_deadline(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._too_late)

    def _too_late(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
                self.transport.write(_TOO_SLOW)
            self.transport.close()


class GracefulServer(uvicorn.Server):
    """Ends with exit code 0 on SIGTERM or Ctrl-C: refuses new work, lets accepted work finish, interrupts the rest."""

    def __init__(
        self, config: uvicorn.Config, guard: RequestGuard, interrupt: Callable[[], None], grace_seconds: float
    ) -> None:
        super().__init__(config)
        self._guard = guard
        self._interrupt = interrupt
        self._grace_seconds = grace_seconds
        self._asked_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Asks for a stop at the first signal, and waits no longer at the second."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self._guard.stopping = True
        else:
            self.should_exit = self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        # uvicorn calls this ten times a second.
        if self._asked_at is not None and not self.should_exit:
            self._guard.begin_stop()
            if not self._guard.open_requests:
                self.should_exit = True
            elif time.monotonic() - self._asked_at >= self._grace_seconds:
                self._interrupt()
                # uvicorn now waits for the open responses, in which their clients are told, for LINGER_SECONDS.
                self.should_exit = True
        return await super().on_tick(counter)


def finish_threads(seconds: float) -> bool:
    """Waits for the threads that would keep the process alive; says whether all of them have ended.

    A run of the model cannot be interrupted, and Python waits without limit for its thread at exit.
    """
    deadline = time.monotonic() + seconds
    others = [one for one in threading.enumerate() if not one.daemon and one is not threading.current_thread()]
    for thread in others:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in others)


def listen(host: str, port: int) -> socket.socket:
    """Returns a bound socket; connections are taken once the server runs.

    Raises:
        UserError: the port is in use, or the address is not one of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host {host}: this machine knows no such address") from error
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        # Binding alone succeeds beside another socket that is bound and not yet listening.
        bound.listen(1)
    except PermissionError as error:
        bound.close()
        raise UserError(f"port {port} needs more rights; choose another with --port") from error
    except OSError as error:
        bound.close()
        raise UserError(
            f"{host}:{port} cannot be used ({error.strerror}); stop what uses it, "
            "or choose another with --port (0 takes a free one)"
        ) from error
    return bound


def run_server(
    app: ASGIApp,
    guard: RequestGuard,
    interrupt: Callable[[], None],
    bound: socket.socket,
    settings: ServeConfig,
    on_ready: Callable[[], None],
) -> None:
    """Serves until a signal asks for the end.

    Args:
        interrupt: ends whatever is not answered yet; called when the time of grace is over.
        on_ready: called once requests are answered.
    """

    class Http(BoundedHttp):
        head_seconds = min(HEAD_SECONDS, settings.timeout)

    config = uvicorn.Config(
        app,
        http=Http,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=LINGER_SECONDS,
        h11_max_incomplete_event_size=HEAD_BYTES,
        proxy_headers=False,
    )
    # What clients do wrong is answered and counted, not logged; unexpected errors come from our own logger.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)

    class Announcing(GracefulServer):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_ready()

    Announcing(config, guard, interrupt, settings.grace_seconds).run(sockets=[bound])
