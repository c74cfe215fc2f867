"""Clients of the chat that hang up or send too much."""

import json
from pathlib import Path

from dlcommon.runtime.serving import paths
from dlcommon.testing.commands import script
from dlcommon.testing.hang_ups import check_hang_ups
from dlcommon.testing.raw_http import Target
from dlcommon.testing.server_process import serving
from llm_lora.service import ChatService


def test_what_clients_abandon_stops_and_what_is_too_large_is_not_read(
    exported: tuple[object, Path], service: ChatService
) -> None:
    with serving([script("llm-lora"), "serve", "--model", str(exported[1]), "--no-demo"]) as server:
        target = Target(server.address, dict(service.example), None)
        check_hang_ups(target, service)
        body = b'{"messages":[' + b"{}," * 200_000 + b"{}]}"
        reply = target.request("POST", paths.CHAT, body, Content_Type="application/json")
        assert reply.status == 413
        assert "values" in json.loads(reply.body)["error"]["message"]
        assert "Traceback" not in server.log_text()
