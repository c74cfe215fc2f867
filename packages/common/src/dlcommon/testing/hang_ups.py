"""Clients of a generating service that hang up: what they asked for stops, and the others are answered."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

from dlcommon.runtime.serving.service import BatchGeneratingService, GeneratingService
from dlcommon.runtime.serving.settings import ServeConfig
from dlcommon.testing.raw_http import Target, wait_until

SLOTS, QUEUE, MAX_TOKENS = ServeConfig.slots, ServeConfig.queue, ServeConfig.max_tokens
LEAVERS = SLOTS + 4
"""Clients that leave: more than there are slots, so that some leave while they wait for one."""
STEPS = "dl_model_seconds_count"


def check_hang_ups(target: Target, service: GeneratingService[Any, Any]) -> None:
    """Sends long, short and streamed requests, of which the long and the streamed ones are left at once, twice.

    The server has the default `--slots`, `--queue` and `--max-tokens`. No clock is read: what is compared is how often
    the model has run.

    Raises:
        AssertionError: something goes on that nobody waits for, or a client that stayed got another answer.
    """
    alone = target.metric(STEPS)
    expected = target.post_items([target.example])
    assert expected.status == 200, expected.body[:500]
    steps = target.metric(STEPS) - alone
    assert steps >= 2, "the example takes one step, in which no other gets a turn; choose a longer one"
    # Fewer items than the queue takes, and fewer tokens than a request may ask for.
    tokens = service.tokens(service.item.model_validate(target.example))
    copies = max(1, min(target.max_items, QUEUE // (2 * LEAVERS), MAX_TOKENS // tokens))
    for _ in range(2):
        gone, begun = target.metric('dl_items_total{outcome="abandoned"}'), target.metric(STEPS)
        with ThreadPoolExecutor(3) as threads, ExitStack() as connections:
            for number in range(LEAVERS):
                path = "/v1/stream" if number % 3 == 0 else "/v1/predict"
                connections.enter_context(_asking(target, path, 1 if number % 3 == 0 else copies))
            stayers = [threads.submit(target.post_items, [target.example]) for _ in range(3)]
            wait_until(partial(_ran_since, target, begun))
            connections.close()  # all of the first hang up
            replies = [stayer.result() for stayer in stayers]
        assert [reply.status for reply in replies] == [200, 200, 200], [reply.body[:200] for reply in replies]
        if not isinstance(service, BatchGeneratingService):  # in batches of another size, sums are rounded otherwise
            assert {reply.body for reply in replies} == {expected.body}, "one generation changed what another wrote"
        wait_until(lambda: target.metric("dl_items_in_flight") == 0)
        ran = target.metric(STEPS)
        assert target.post_items([target.example]).status == 200
        # Besides the steps of this request there are those that were running when their clients left.
        assert target.metric(STEPS) - ran <= steps + SLOTS, "the model works for clients that are gone"
        assert target.metric('dl_items_total{outcome="abandoned"}') > gone
        ready = target.request("GET", "/readyz")
        assert ready.status == 200, ready.body


def _ran_since(target: Target, steps: float) -> bool:
    return target.metric(STEPS) > steps


def _asking(target: Target, path: str, copies: int) -> socket.socket:
    """Sends a request, and does not read its answer."""
    body = json.dumps({"items": [target.example] * copies}).encode()
    head = target.head("POST", path, {"Content-Type": "application/json", "Content-Length": str(len(body))})
    connection = target.connect()
    connection.sendall(head + body)
    return connection
