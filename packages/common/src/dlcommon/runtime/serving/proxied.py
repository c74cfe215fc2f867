"""Finds out where clients see this server: under which path of a reverse proxy, and under which name."""

import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from dlcommon.runtime.serving.settings import ROOT_PATH

_HOST = re.compile(r"[\w.-]+(:\d{1,5})?|\[[\da-fA-F:.]+\](:\d{1,5})?", re.ASCII)


def first_of(headers: Headers, name: str) -> str:
    """Returns the first value of a header that a chain of proxies may have added to; empty where there is none."""
    return headers.get(name, "").partition(",")[0].strip()


def with_root_path(scope: Scope, configured: str) -> Scope:
    """Returns the request's scope with the prefix of its reverse proxy (https://example.org/digits/) as `root_path`.

    The prefix is that of the header X-Forwarded-Prefix, else the configured one; it makes no difference whether the
    proxy has taken it off the path. It decides about nothing but the addresses in the answer to the same request.
    """
    headers = Headers(scope=scope)
    prefix = (first_of(headers, "x-forwarded-prefix") if "x-forwarded-prefix" in headers else configured).rstrip("/")
    if not ROOT_PATH.fullmatch(prefix):
        return scope
    path: str = scope["path"]
    if path != prefix and not path.startswith(prefix + "/"):
        path = prefix + path  # ASGI wants the root path to be part of the path
    return {**scope, "root_path": prefix, "path": path}


def route_path(scope: Scope) -> str:
    """Returns the path below the root path: that of the route."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")) or "/"


def with_page_root(scope: Scope) -> Scope:
    """Returns the scope with headers from which Gradio makes the addresses of an answer's files.

    They begin with what the browser itself says: Origin, which `Access` has checked, and the path of Referer. A proxy
    may have put another name into Host; X-Forwarded-Host, which any client can send, is not used.
    """
    headers = Headers(scope=scope)
    scheme, _, host = headers.get("origin", "").partition("://")
    prefix: str = scope.get("root_path", "")
    if host:
        prefix = prefix or _referring_folder(headers.get("referer", ""), f"{scheme}://{host}")
    else:
        host = headers.get("host", "")
        scheme = first_of(headers, "x-forwarded-proto") or scope.get("scheme", "http")
    if not _HOST.fullmatch(host):
        host = "localhost"
    told = {b"x-forwarded-host": f"{host}{prefix}".encode("latin-1"), b"x-forwarded-proto": scheme.encode("latin-1")}
    others = [(name, value) for name, value in scope["headers"] if name not in told]
    return {**scope, "headers": [*others, *told.items()]}


def _referring_folder(referer: str, origin: str) -> str:
    """Returns the path of the page from which a request came, without its last part."""
    if not referer.startswith(f"{origin}/"):
        return ""
    try:
        folder = urlsplit(referer).path.rpartition("/")[0]
    except ValueError:
        return ""
    return folder if ROOT_PATH.fullmatch(folder) else ""
