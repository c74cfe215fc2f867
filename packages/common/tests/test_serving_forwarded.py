"""The prefix under which a reverse proxy shows the server."""

import pytest
from dlcommon.runtime.serving.access import route_path, with_root_path
from starlette.datastructures import Headers


def scope_of(path: str, **headers: str) -> dict[str, object]:
    named = {"host": "here", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return {"type": "http", "path": path, "headers": [(k.encode(), v.encode()) for k, v in named.items()]}


@pytest.mark.parametrize("path", ["/v1/model", "/digits/v1/model"])
@pytest.mark.parametrize(("header", "configured"), [("/digits", ""), (None, "/digits"), ("/digits/", "/other")])
def test_the_prefix_is_the_root_path_whether_the_proxy_strips_it_or_not(
    path: str, header: str | None, configured: str
) -> None:
    headers = {} if header is None else {"x_forwarded_prefix": header}
    scope = with_root_path(scope_of(path, **headers), configured)
    assert (scope["root_path"], scope["path"]) == ("/digits", "/digits/v1/model")
    assert route_path(scope) == "/v1/model"
    assert Headers(scope=scope).getlist("x-forwarded-host") == ["here/digits"]


def test_the_page_itself_has_a_path() -> None:
    for path in ("/", "/digits", "/digits/"):
        assert route_path(with_root_path(scope_of(path, x_forwarded_prefix="/digits"), "")) == "/"


@pytest.mark.parametrize("prefix", ["", "/", "digits", "//evil.example", "/a?b", "/a b", "/" + "x" * 300])
def test_what_is_no_path_is_ignored(prefix: str) -> None:
    scope = scope_of("/v1/model", x_forwarded_prefix=prefix)
    assert with_root_path(scope, "") is scope
