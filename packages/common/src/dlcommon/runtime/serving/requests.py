"""Parses the bytes of a prediction request into raw items."""

from collections.abc import AsyncGenerator
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from dlcommon.runtime.serving.engine import Engine
from dlcommon.runtime.serving.errors import bad_request
from dlcommon.runtime.serving.json_body import parse_json

MAX_FILE_NAME = 255
INLINE_BYTES = 32 * 1024
"""JSON up to this size is parsed on the event loop, since a thread would take longer."""


def _items_of(content: Any, limit: int) -> list[Any]:
    if not isinstance(content, dict) or "items" not in content:
        raise bad_request("invalid_request", 'the body must read {"items": [...]}', 422)
    if unknown := [key for key in content if key != "items"]:
        raise bad_request("invalid_request", f"unknown field {unknown[0][:40]!r} beside 'items'", 422)
    items = content["items"]
    if not isinstance(items, list):
        raise bad_request("invalid_request", "'items' must be a list", 422)
    return _counted(items, limit)


def _counted(items: list[Any], limit: int) -> list[Any]:
    if not items:
        raise bad_request("invalid_request", "the request holds no items", 422)
    if len(items) > limit:
        raise bad_request("too_many_items", f"the request holds {len(items)} items; at most {limit} are accepted", 413)
    return items


class _Files:
    """Collects the files of a multipart body."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.files: list[bytes] = []
        self._name = self._value = b""
        self._disposition = b""
        self._content: list[bytes] = []
        self.complete = False

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": lambda data, start, end: self._content.append(data[start:end]),
            "on_part_end": lambda: self.files.append(b"".join(self._content)),
            "on_end": self._end,
        }

    def _end(self) -> None:
        self.complete = True

    def _begin(self) -> None:
        self._name = self._value = self._disposition = b""
        self._content = []

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") not in (b"files", b"file"):
            raise bad_request("invalid_request", "files are sent in the form field 'files'; no other field is known")
        # The name is never used, let alone as a path; what no file system could hold is a sign of an attack.
        file_name = options.get(b"filename")
        if file_name is None:
            raise bad_request("invalid_request", "the field 'files' must hold files, each with a file name")
        if len(file_name) > MAX_FILE_NAME:
            raise bad_request("invalid_request", f"a file name is longer than {MAX_FILE_NAME} bytes")
        if any(part in file_name for part in (b"/", b"\\", b"\0")):
            raise bad_request("invalid_request", "a file name must not be a path")
        if len(self.files) >= self.limit:
            raise bad_request("too_many_items", f"at most {self.limit} files are accepted in one request", 413)


def parse_files(body: bytes, content_type: str, limit: int) -> list[bytes]:
    """Returns the contents of the files in a multipart body; their names are checked and forgotten.

    Raises:
        RequestError: the body is damaged, or holds something else.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary or len(boundary) > 200:
        raise bad_request("invalid_request", "the multipart content type names no usable boundary")
    files = _Files(limit)
    try:
        parser = MultipartParser(boundary, files.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise bad_request("invalid_request", "the multipart body is damaged, or has an oversized header") from None
    if not files.complete:
        raise bad_request("invalid_request", "the multipart body is cut off")
    return _counted(files.files, limit)


async def read_items(content_type: str, stream: AsyncGenerator[bytes, None], engine: Engine) -> list[Any]:
    """Reads the items of a request: dicts from JSON, bytes from files.

    Raises:
        RequestError: 4xx with the reason.
    """
    kind = content_type.partition(";")[0].strip().lower()
    limit = engine.settings.max_items
    takes_files = engine.service.upload is not None
    if not (
        kind == "application/json" or (takes_files and (kind == "multipart/form-data" or kind.startswith("image/")))
    ):
        kinds = "application/json" + (", multipart/form-data or image/*" if takes_files else "")
        raise bad_request("unsupported_media_type", f"the content type must be {kinds}", 415)
    body = b"".join([chunk async for chunk in stream])
    if kind == "application/json":
        inline = len(body) <= INLINE_BYTES
        content = (
            parse_json(body, engine.max_values) if inline else await engine.in_pool(parse_json, body, engine.max_values)
        )
        return _items_of(content, limit)
    if kind == "multipart/form-data":
        return await engine.in_pool(parse_files, body, content_type, limit)
    return [body]
