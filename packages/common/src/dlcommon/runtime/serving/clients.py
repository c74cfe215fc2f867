"""Shares the server between its clients: what one of them may have going on at once."""

import ipaddress
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from starlette.datastructures import Headers
from starlette.types import Scope

from dlcommon.runtime.serving.errors import RequestError, overloaded

MAX_CONNECTIONS = 512
REQUESTS_OF_ONE = MAX_CONNECTIONS * 3 // 4
"""Requests in progress of one client, so that others find a place."""
LASTING_OF_ONE, LASTING_OF_ALL = MAX_CONNECTIONS // 4, MAX_CONNECTIONS * 3 // 4
"""Requests that a page keeps open as long as it is shown, or as it waits for results."""


class Clients:
    """Counts requests in progress by client; used from one event loop.

    A client is an IP address, or the /64 network of an IPv6 address. Behind a trusted proxy it is the last address that
    X-Forwarded-For names: the one that the proxy itself has seen.
    """

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._proxies = [ipaddress.ip_network(proxy) for proxy in trusted_proxies]
        self._requests: Counter[str] = Counter()
        self._lasting: Counter[str] = Counter()

    def name(self, scope: Scope) -> str:
        """Returns the client that has sent a request."""
        peer: str = (scope.get("client") or ("unknown", 0))[0]
        address = _address(peer)
        if address is not None and any(address in network for network in self._proxies):
            address = _address(Headers(scope=scope).get("x-forwarded-for", "").rpartition(",")[2].strip()) or address
        if isinstance(address, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((address, 64), strict=False))
        return peer if address is None else str(address)

    @contextmanager
    def request(self, client: str, lasting: bool) -> Iterator[None]:
        """Counts a request while the block runs.

        Raises:
            RequestError: 429, the client has too many; 503, all clients together have too many lasting ones.
        """
        if lasting and self._lasting.total() >= LASTING_OF_ALL:
            raise overloaded("too many pages are open; try again later")
        counted, most = (self._lasting, LASTING_OF_ONE) if lasting else (self._requests, REQUESTS_OF_ONE)
        if counted[client] >= most:
            reason = f"at most {most} such requests of one client are answered at once"
            raise RequestError(429, "too_many_requests", reason, {"Retry-After": "1"})
        counted[client] += 1
        try:
            yield
        finally:
            counted[client] -= 1
            if not counted[client]:
                del counted[client]  # so that memory does not grow with the clients that have ever been


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # A socket that listens on IPv6 as well tells IPv4 addresses as ::ffff:192.0.2.1.
    return getattr(address, "ipv4_mapped", None) or address
