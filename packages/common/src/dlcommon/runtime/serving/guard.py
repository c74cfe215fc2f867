"""The outermost layer of the server, which every request and every answer passes."""

import asyncio
import time
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dlcommon.runtime.serving import paths
from dlcommon.runtime.serving.access import Access
from dlcommon.runtime.serving.clients import Clients
from dlcommon.runtime.serving.errors import (
    CLIENT_CLOSED_REQUEST,
    RequestError,
    explain,
    stopping,
)
from dlcommon.runtime.serving.limits import BodyBudget
from dlcommon.runtime.serving.metrics import Metrics
from dlcommon.runtime.serving.proxied import route_path, with_root_path
from dlcommon.runtime.serving.settings import ServeConfig


def security_headers(frame_sites: Sequence[str]) -> list[tuple[bytes, bytes]]:
    """Returns the headers of every answer; the sites named may show the page in a frame."""
    return [
        (b"x-content-type-options", b"nosniff"),
        # With "no-referrer" a browser would send its own login form with "Origin: null".
        (b"referrer-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"),
        # The page works on what this server sends, and may ask no other.
        (
            b"content-security-policy",
            b"default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
            b"style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; form-action 'self'; "
            b"frame-ancestors " + " ".join(["'self'", *frame_sites]).encode(),
        ),
    ]


class _Answer:
    """Sends one answer with the security headers, and drops whatever comes after it."""

    def __init__(self, send: Send, security_headers: list[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._security_headers = security_headers
        self.status = 0
        self.complete = False
        self.closed = False

    async def __call__(self, message: Message) -> None:
        if self.closed:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", []), *self._security_headers]}
        elif message["type"] == "http.response.body":
            self.complete = not message.get("more_body", False)
        await self._send(message)

    async def refuse(self, error: RequestError) -> None:
        """Answers with an error unless an answer has begun already."""
        if not self.status:
            headers = {"Content-Type": "application/json", **error.headers}
            response = Response(error.body(), error.status, headers)
            await response({"type": "http"}, _nothing, self)
        self.closed = True


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


class RequestGuard:
    """Checks address, token and body size, refuses new work while stopping, counts, and answers what was not caught."""

    def __init__(self, settings: ServeConfig, access: Access, metrics: Metrics) -> None:
        self._access = access
        self._metrics = metrics
        self._root_path = settings.root_path
        self._clients = Clients(settings.trusted_proxies)
        self._security_headers = security_headers(settings.frame_sites)
        self._budget = BodyBudget(settings.max_bytes, settings.timeout)
        self._stop = asyncio.Event()
        self.stopping = False
        self.open_requests = 0

    def around(self, app: ASGIApp) -> "RequestGuard":
        """Sets the application that requests are passed on to; returns itself."""
        self._app = app
        return self

    def begin_stop(self) -> None:
        """Refuses new work from now on, and closes the connections that an open page keeps alive."""
        self.stopping = True
        self._stop.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = with_root_path(scope, self._root_path)
        path = route_path(scope)
        lasting = path.startswith(paths.PAGE_HEARTBEAT)
        self.open_requests += not lasting
        started = time.perf_counter()
        answer = _Answer(send, self._security_headers)
        try:
            client = self._clients.name(scope)
            with self._clients.request(client, paths.is_lasting(path)):
                await self._admitted(scope, receive, answer, client)
        except RequestError as error:
            await answer.refuse(error)
        finally:
            self.open_requests -= not lasting
            route = paths.metric_label(path)
            self._metrics.requests.labels(route, str(answer.status or CLIENT_CLOSED_REQUEST)).inc()
            if not lasting:
                self._metrics.seconds.labels(route).observe(time.perf_counter() - started)

    async def _admitted(self, scope: Scope, receive: Receive, answer: _Answer, client: str) -> None:
        if scope["method"] == "GET" and scope["path"] == scope.get("root_path"):
            # The page's addresses are relative, so it has to be asked for with a slash at the end.
            await RedirectResponse(scope["path"].rpartition("/")[2] + "/")(scope, receive, answer)
            return
        headers, path = Headers(scope=scope), route_path(scope)
        try:
            self._access.check_address(headers)
            result_of_accepted = path == paths.PAGE_RESULTS and scope["method"] == "GET"
            if self.stopping and path not in paths.WHILE_STOPPING and not result_of_accepted:
                raise stopping()
            if "transfer-encoding" in headers and ("content-length" in headers or scope["http_version"] == "1.0"):
                # A proxy in front may have read another length, and take what follows for another client's request.
                reason = "a request states its length in one way: Content-Length or Transfer-Encoding"
                raise RequestError(400, "malformed", reason, {"Connection": "close"})
            length = headers.get("content-length")
            self._budget.check_announced(length.encode("latin-1") if length else None)
            if path not in paths.WITHOUT_TOKEN:
                self._access.check_token(headers)
        except RequestError as error:
            if error.status == 401 and "authorization" in headers:
                await self._access.slow_down()
            if error.status == 401 and path == "/" and scope["method"] == "GET":
                await self._access.login_page()(scope, receive, answer)
            else:
                await answer.refuse(error)
            return
        with self._budget.reader(receive, client) as reader:

            async def checked() -> Message:
                try:
                    return await reader()
                except RequestError as error:
                    # Answered here, since what lies between would make a 500 of it.
                    await answer.refuse(error)
                    return {"type": "http.disconnect"}

            try:
                if path == paths.LOGIN:
                    await (await self._access.login(Request(scope, checked)))(scope, checked, answer)
                elif path.startswith(paths.PAGE_HEARTBEAT):
                    await self._app(scope, self._until_stop(checked), answer)
                    if answer.status and not answer.complete:
                        await answer({"type": "http.response.body", "body": b"", "more_body": False})
                else:
                    await self._app(scope, checked, answer)
            except ClientDisconnect:
                pass
            except Exception as error:
                if not answer.closed:
                    await answer.refuse(explain(error))

    def _until_stop(self, receive: Receive) -> Receive:
        async def ended() -> Message:
            waits = [asyncio.ensure_future(receive()), asyncio.ensure_future(self._stop.wait())]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                return waits[0].result() if waits[0].done() else {"type": "http.disconnect"}  # type: ignore[return-value]
            finally:
                for wait in waits:
                    wait.cancel()

        return ended
