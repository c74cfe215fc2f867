"""Requests that a reverse proxy received under a path of its own, such as https://example.org/digits/."""

from starlette.datastructures import Headers
from starlette.types import Scope

from dlcommon.runtime.serving.settings import ROOT_PATH


def with_root_path(scope: Scope, configured: str) -> Scope:
    """Returns the request's scope with the proxy's prefix as its `root_path`.

    The prefix is that of the header X-Forwarded-Prefix, else the configured one; it makes no difference whether the
    proxy has taken it off the path. It decides about nothing but the addresses in the answer to the same request.
    """
    headers = Headers(scope=scope)
    prefix = headers.get("x-forwarded-prefix", configured).partition(",")[0].strip().rstrip("/")
    if not ROOT_PATH.fullmatch(prefix):
        return scope
    path: str = scope["path"]
    if path != prefix and not path.startswith(prefix + "/"):
        path = prefix + path  # ASGI wants the root path to be part of the path
    host = headers.get("x-forwarded-host", headers.get("host", "")).partition(",")[0].strip()
    # Some of Gradio's addresses are made from this header alone, without the root path.
    forwarded_host = (b"x-forwarded-host", f"{host}{prefix}".encode("latin-1"))
    others = [(name, value) for name, value in scope["headers"] if name != b"x-forwarded-host"]
    return {**scope, "root_path": prefix, "path": path, "headers": [*others, forwarded_host]}


def route_path(scope: Scope) -> str:
    """Returns the path below the root path: that of the route."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")) or "/"
