"""What no server may fall over: each bad input is answered 4xx with a reason, and the server lives on.

@pytest.mark.parametrize("bad", BAD_INPUTS, ids=str)
def test_bad_input(bad, target):
    bad.check(target)
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dlcommon.testing import bad_bodies as bodies
from dlcommon.testing.raw_http import PREDICT, Reply, Target, read_reply

Send = Callable[[Target], Reply | None]


@dataclass(frozen=True)
class BadInput:
    """Describes a bad request: how to send it, and the statuses that may answer it."""

    name: str
    send: Send
    statuses: tuple[int, ...]
    """Statuses that say so; empty where the client is gone before it could be told."""
    needs_upload: bool = False

    def __str__(self) -> str:
        return self.name

    def check(self, target: Target) -> None:
        """Sends it; checks that the answer has one of `statuses` and leaks no internals, and that the server lives."""
        reply = self.send(target)
        if self.statuses:
            assert reply is not None, f"{self.name}: the connection ended without an answer"
            assert reply.status in self.statuses, (reply.status, reply.body[:500])
            check_refusal(reply)
        target.check_alive()


def check_refusal(reply: Reply) -> None:
    """Checks that the body is an error with a code and a reason, and shows no traceback and no path."""
    error = json.loads(reply.body)["error"]
    assert error["code"]
    assert len(error["message"]) >= 10
    assert len(reply.body) < 20_000
    for trace in (
        b"Traceback",
        b'File "',
        b".py",
        b"site-packages",
        b"/home/",
        b"/usr/",
        b"/tmp/",
        b"/root/",
    ):
        assert trace not in reply.body, reply.body[:500]


def _json(body: bytes) -> Send:
    return lambda target: target.post(body)


def _items(items: Callable[[Target], Any]) -> Send:
    return lambda target: target.post_items(items(target))


def _body(body: Callable[[], bytes], content_type: str) -> Send:
    return lambda target: target.post(body(), content_type)


def _multipart(parts: Callable[[Target], bytes]) -> Send:
    return lambda target: target.post(parts(target), f"multipart/form-data; boundary={bodies.BOUNDARY}")


def _raw(content: bytes) -> Send:
    return lambda target: target.exchange(content)


def _headed(method: str, path: str, body: bytes = b"", **headers: str) -> Send:
    return lambda target: target.request(method, path, body, **headers)


def _in_upload_field(value: Any) -> Send:
    return lambda target: target.post_items([{target.upload: value}])


def _too_large(target: Target) -> Reply | None:
    size = 50 * 2**20
    head = target.head("POST", PREDICT, {"Content-Type": "application/json", "Content-Length": str(size)})
    return target.exchange(iter([head, *[b" " * 2**20] * 50]))


def _too_large_in_chunks(target: Target) -> Reply | None:
    head = target.head("POST", PREDICT, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    return target.exchange(iter([head, *[chunk] * 800, b"0\r\n\r\n"]))


def _two_lengths(target: Target) -> Reply | None:
    """Says nothing on its connection after the refusal, though another request is behind it."""
    headers = {"Content-Type": JSON, "Content-Length": "4", "Transfer-Encoding": "chunked", "Connection": "keep-alive"}
    smuggled = target.head("GET", "/healthz", {})
    with target.connect() as connection:
        connection.sendall(target.head("POST", PREDICT, headers) + b"0\r\n\r\n" + smuggled)
        reply = read_reply(connection)
        assert read_reply(connection) is None, "the connection was used for what came behind"
        return reply


def _slow_body(target: Target) -> Reply | None:
    head = target.head("POST", PREDICT, {"Content-Type": "application/json", "Content-Length": "1000"})
    return target.exchange(iter([head, b'{"items"']))


def _slow_head(target: Target) -> Reply | None:
    return target.exchange(b"POST /v1/predict HTTP/1.1\r\nHost: ")


def _hang_up_within_the_body(target: Target) -> None:
    with target.connect() as connection:
        head = target.head("POST", PREDICT, {"Content-Type": "application/json", "Content-Length": "1000"})
        connection.sendall(head + b'{"items": [')


def _hang_up_before_the_answer(target: Target) -> None:
    body = json.dumps({"items": [target.example] * min(8, target.max_items)}).encode()
    for _ in range(5):
        with target.connect() as connection:
            connection.sendall(target.post_head(body) + body)


def _foreign_host(target: Target) -> Reply | None:
    return target.exchange(target.head("GET", "/v1/model", {"Host": "evil.example"}))


def _wrong_fields(target: Target) -> Any:
    return [{name: {"a": [{}]} for name in target.example}]


JSON = "application/json"
MALFORMED = (400, 431)

BAD_INPUTS: tuple[BadInput, ...] = (
    BadInput("empty body", _json(b""), (400,)),
    BadInput("not JSON", _json(b"hello"), (400,)),
    BadInput("truncated JSON", _json(b'{"items": [{"a": 1'), (400,)),
    BadInput("invalid UTF-8", _json(b'{"items": ["\xff\xfe"]}'), (400,)),
    BadInput("UTF-16", _json('{"items": []}'.encode("utf-16")), (400,)),
    BadInput("deeply nested JSON", _json(b'{"items":' + b"[" * 100_000), (400,)),
    BadInput("deeply nested closed JSON", _json(b"[" * 50_000 + b"]" * 50_000), (400, 422)),
    BadInput("duplicate keys", _json(b'{"items": [], "items": [{}]}'), (400,)),
    BadInput("NaN", _json(b'{"items": [{"x": NaN}]}'), (400,)),
    BadInput("Infinity", _json(b'{"items": [{"x": -Infinity}]}'), (400,)),
    BadInput("integer of 10,000 digits", _json(b'{"items": [' + b"9" * 10_000 + b"]}"), (400,)),
    BadInput("gzip that claims to be JSON", _json(bodies.GZIP), (400,)),
    BadInput("list at the top", _json(b"[]"), (422,)),
    BadInput("null at the top", _json(b"null"), (422,)),
    BadInput("no items field", _json(b"{}"), (422,)),
    BadInput("items not a list", _json(b'{"items": 1e999}'), (422,)),
    BadInput("no items", _items(lambda _: []), (422,)),
    BadInput("item null", _items(lambda _: [None]), (422,)),
    BadInput("item a number", _items(lambda _: [3]), (422,)),
    BadInput("item a text", _items(lambda _: ["../../etc/passwd"]), (422,)),
    BadInput("all items bad", _items(lambda _: [None, 3, "x"]), (422,)),
    BadInput("wrong types in every field", _items(_wrong_fields), (422,)),
    BadInput("unknown field", _items(lambda target: [{**target.example, "a_field_unheard_of": 1}]), (422,)),
    BadInput("unknown field of 1 MB", _items(lambda target: [{**target.example, "x" * 2**20: 1}]), (422,)),
    BadInput("600,000 unknown fields", _json(bodies.unknown_fields(600_000)), (413,)),
    BadInput("2,000 unknown fields", _json(bodies.unknown_fields(2_001)), (422,)),
    BadInput("million of lists", _json(b'{"items":[{"a":[' + b"[]," * 10**6 + b"[]]}]}"), (413,)),
    BadInput("item of 17 levels", _json(b'{"items":[{"a":' + b"[" * 17 + b"]" * 17 + b"}]}"), (422,)),
    BadInput("half a surrogate pair", _json(b'{"items": [{"\\ud800": "\\udfff"}]}'), (422,)),
    BadInput("unknown field beside items", _json(b'{"items": [{}], "model": "/etc/passwd"}'), (422,)),
    BadInput("too many items", _items(lambda target: [target.example] * (target.max_items + 1)), (413,)),
    BadInput("plain text", _body(lambda: b'{"items": []}', "text/plain"), (415,)),
    BadInput("form", _body(lambda: b"items=1", "application/x-www-form-urlencoded"), (415,)),
    BadInput("no content type", _headed("POST", PREDICT, b"{}"), (415,)),
    BadInput("50 MB", _too_large, (413,)),
    BadInput("50 MB in chunks without a length", _too_large_in_chunks, (413,)),
    BadInput("GET where POST is meant", _headed("GET", PREDICT), (405,)),
    BadInput("DELETE", _headed("DELETE", "/v1/model"), (405,)),
    BadInput("unknown method", _headed("BREW", PREDICT), (405,)),
    BadInput("unknown path", _headed("GET", "/v1/nothing"), (404,)),
    BadInput("path traversal", _headed("GET", "/v1/../../../../etc/passwd"), (404,)),
    BadInput("encoded path traversal", _headed("GET", "/static-offline-docs/..%2f..%2f..%2fetc%2fpasswd"), (404,)),
    BadInput("foreign host", _foreign_host, (421,)),
    BadInput("foreign origin", _headed("POST", PREDICT, b"{}", Origin="https://evil.example"), (403,)),
    BadInput("damaged origin", _headed("POST", PREDICT, b"{}", Origin="http://["), (403,)),
    BadInput(
        "not HTTP",
        _raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64 + b"\r\n\r\n"),
        MALFORMED,
    ),
    BadInput("garbage", _raw(bytes(range(256)) * 100), MALFORMED),
    BadInput("no host", _raw(b"GET /healthz HTTP/1.1\r\n\r\n"), MALFORMED),
    BadInput("header of 1 MB", _headed("GET", "/v1/model", X_Long="x" * 2**20), MALFORMED),
    BadInput("path of 1 MB", _headed("GET", "/" + "x" * 2**20), MALFORMED),
    BadInput("negative length", _headed("POST", PREDICT, b"{}", Content_Length="-1"), MALFORMED),
    BadInput("length not a number", _headed("POST", PREDICT, b"{}", Content_Length="many"), MALFORMED),
    BadInput(
        "bad chunk size",
        lambda target: target.exchange(
            target.head("POST", PREDICT, {"Content-Type": JSON, "Transfer-Encoding": "chunked"}) + b"zz\r\nabc\r\n"
        ),
        MALFORMED,
    ),
    BadInput("two lengths", _two_lengths, (400,)),
    BadInput(
        "chunks in HTTP/1.0",
        lambda target: target.exchange(
            target.head("POST", PREDICT, {"Transfer-Encoding": "chunked"}).replace(b"HTTP/1.1", b"HTTP/1.0")
            + b"0\r\n\r\n"
        ),
        (400,),
    ),
    BadInput("slow headers", _slow_head, (408,)),
    BadInput("slow body", _slow_body, (408,)),
    BadInput("hangs up within the body", _hang_up_within_the_body, ()),
    BadInput("hangs up before the answer", _hang_up_before_the_answer, ()),
    BadInput("multipart without boundary", _body(lambda: b"x", "multipart/form-data"), (400,), True),
    BadInput("multipart cut off", _multipart(lambda _: bodies.file_part(bodies.png())[:-60]), (400,), True),
    BadInput("multipart garbage", _multipart(lambda _: b"\0\1\2" * 100), (400,), True),
    BadInput("multipart without files", _multipart(lambda _: bodies.end()), (400, 422), True),
    BadInput(
        "multipart field of another name",
        _multipart(lambda _: bodies.multipart(bodies.png(), field="x")),
        (400,),
        True,
    ),
    BadInput(
        "file name of 1 MB",
        _multipart(lambda _: bodies.multipart(bodies.png(), name="x" * 2**20)),
        (400,),
        True,
    ),
    BadInput(
        "file name of 300 bytes",
        _multipart(lambda _: bodies.multipart(bodies.png(), name="x" * 300)),
        (400,),
        True,
    ),
    BadInput(
        "path traversal in a file name",
        _multipart(lambda _: bodies.multipart(bodies.png(), name="../../../etc/passwd")),
        (400,),
        True,
    ),
    BadInput(
        "NUL in a file name",
        _multipart(lambda _: bodies.multipart(bodies.png(), name="a\0.png")),
        (400,),
        True,
    ),
    BadInput("empty file", _multipart(lambda _: bodies.multipart(b"")), (422,), True),
    BadInput(
        "too many files",
        _multipart(lambda target: bodies.file_part(b"x") * (target.max_items + 1) + bodies.end()),
        (413,),
        True,
    ),
    BadInput("image of 0 bytes", _body(lambda: b"", "image/png"), (422,), True),
    BadInput("PDF as PNG", _body(lambda: b"%PDF-1.7 " + b"x" * 1000, "image/png"), (422,), True),
    BadInput("SVG with a script", _body(lambda: bodies.SVG, "image/svg+xml"), (422,), True),
    BadInput("PNG cut off", _body(lambda: bodies.png()[:-40], "image/png"), (422,), True),
    BadInput("PNG of a signature alone", _body(lambda: bodies.png()[:8], "image/png"), (422,), True),
    BadInput("JPEG cut off", _body(lambda: bodies.jpeg()[:200], "image/jpeg"), (422,), True),
    BadInput("PNG with damaged pixels", _body(bodies.damaged_png, "image/png"), (422,), True),
    BadInput("PNG bomb", _body(bodies.png_bomb, "image/png"), (422,), True),
    BadInput("WebP bomb", _body(bodies.webp_bomb, "image/webp"), (422,), True),
    BadInput("GIF bomb", _body(bodies.gif_bomb, "image/gif"), (422,), True),
    BadInput("BMP of a negative size", _body(bodies.bmp_of_no_size, "image/bmp"), (422,), True),
    BadInput("image not base64", _in_upload_field("%%%not base64%%%"), (422,), True),
    BadInput("image by address", _in_upload_field("http://169.254.169.254/latest/meta-data/"), (422,), True),
    BadInput("image by path", _in_upload_field("/etc/passwd"), (422,), True),
    BadInput("image as data: of HTML", _in_upload_field("data:text/html;base64,PGI+"), (422,), True),
    BadInput("image an empty text", _in_upload_field(""), (422,), True),
    BadInput("image a list", _in_upload_field([1, 2, 3]), (422,), True),
)


def bad_inputs(upload: bool) -> tuple[BadInput, ...]:
    """Returns the bad inputs that apply to a service with or without uploads."""
    return tuple(bad for bad in BAD_INPUTS if upload or not bad.needs_upload)
