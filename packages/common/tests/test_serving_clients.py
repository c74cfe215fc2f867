"""What one client may have going on at once, and who counts as one."""

import asyncio

import pytest
from dlcommon.runtime.serving.clients import LASTING_OF_ALL, LASTING_OF_ONE, REQUESTS_OF_ONE, Clients
from dlcommon.runtime.serving.errors import RequestError
from dlcommon.runtime.serving.limits import BODIES_AT_ONCE, BodyBudget
from dlcommon.runtime.serving.settings import ServeConfig
from starlette.types import Message


def name(peer: str, forwarded: str = "", proxies: tuple[str, ...] = ServeConfig().trusted_proxies) -> str:
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    return Clients(proxies).name({"type": "http", "client": (peer, 1), "headers": headers})


def test_a_client_is_an_address_or_an_ipv6_network() -> None:
    assert name("192.0.2.1") == name("::ffff:192.0.2.1") == "192.0.2.1"
    assert name("2001:db8::1") == name("2001:db8::ffff:1") != name("2001:db8:0:1::1")
    assert name("unix") == "unix"
    assert Clients(()).name({"type": "http", "client": None, "headers": []}) == "unknown"


def test_behind_a_proxy_a_client_is_the_address_that_the_proxy_has_seen() -> None:
    assert name("127.0.0.1", "203.0.113.7") == "203.0.113.7"
    assert name("127.0.0.1", "198.51.100.1, 203.0.113.7") == "203.0.113.7"
    assert name("::1", "2001:db8::1") == name("2001:db8::2")
    for damaged in ("", "x", "203.0.113.7, "):
        assert name("127.0.0.1", damaged) == "127.0.0.1"
    # Whoever connects from elsewhere could have written anything.
    assert name("192.0.2.1", "203.0.113.7") == "192.0.2.1"
    assert name("10.1.2.3", "203.0.113.7", ("10.0.0.0/8",)) == "203.0.113.7"
    with pytest.raises(ValueError, match="trusted_proxies"):
        ServeConfig(trusted_proxies=("front",))


def test_requests_and_open_pages_are_bounded_by_client_and_the_others_go_on() -> None:
    clients = Clients(())

    def open_many(client: str, count: int, lasting: bool) -> list[object]:
        opened = [clients.request(client, lasting) for _ in range(count)]
        for one in opened:
            one.__enter__()
        return list(opened)

    held = open_many("a", REQUESTS_OF_ONE, lasting=False) + open_many("a", LASTING_OF_ONE, lasting=True)
    for lasting in (True, False):
        with pytest.raises(RequestError) as refused, clients.request("a", lasting):
            pass
        assert refused.value.status == 429
        with clients.request("b", lasting):
            pass
    for number in range(LASTING_OF_ALL // LASTING_OF_ONE - 1):
        held += open_many(f"c{number}", LASTING_OF_ONE, lasting=True)
    with pytest.raises(RequestError, match="too many pages") as full, clients.request("b", lasting=True):
        pass
    assert full.value.status == 503
    with clients.request("b", lasting=False):
        pass
    for one in held:
        one.__exit__(None, None, None)  # type: ignore[attr-defined]
    assert not clients._requests
    assert not clients._lasting


def test_the_bodies_of_one_client_leave_memory_for_those_of_others() -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"x" * 100, "more_body": True}

    async def main() -> None:
        budget = BodyBudget(max_bytes=100, seconds=600)
        readers = [budget.reader(receive, client) for client in "aab" for _ in range(BODIES_AT_ONCE // 2)]
        first, more, others = (
            readers[part : part + BODIES_AT_ONCE // 2] for part in (0, BODIES_AT_ONCE // 2, BODIES_AT_ONCE)
        )
        for reader in first:
            await reader.__enter__()()
        for reader in others:
            await reader.__enter__()()
        with pytest.raises(RequestError) as refused:
            await more[0].__enter__()()
        assert refused.value.status == 503
        for reader in (*first, *others, more[0]):
            reader.__exit__(None, None, None)
        assert not budget.held

    asyncio.run(main())
