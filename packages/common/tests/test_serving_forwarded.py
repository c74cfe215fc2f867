"""The prefix under which a reverse proxy shows the server, and the names under which clients know it."""

import pytest
from dlcommon.runtime.serving.access import Access
from dlcommon.runtime.serving.errors import RequestError
from dlcommon.runtime.serving.proxied import route_path, with_page_root, with_root_path
from dlcommon.runtime.serving.settings import ServeConfig
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


def test_the_page_itself_has_a_path() -> None:
    for path in ("/", "/digits", "/digits/"):
        assert route_path(with_root_path(scope_of(path, x_forwarded_prefix="/digits"), "")) == "/"


@pytest.mark.parametrize("prefix", ["", "/", "digits", "//evil.example", "/a?b", "/a b", "/" + "x" * 300])
def test_what_is_no_path_is_ignored(prefix: str) -> None:
    scope = scope_of("/v1/model", x_forwarded_prefix=prefix)
    assert with_root_path(scope, "") is scope


def page_root(path: str = "/config", **headers: str) -> str:
    """Returns the address that Gradio makes of the headers."""
    told = Headers(scope=with_page_root(with_root_path(scope_of(path, **headers), "")))
    assert len(told.getlist("x-forwarded-host")) == len(told.getlist("x-forwarded-proto")) == 1
    return f"{told['x-forwarded-proto']}://{told['x-forwarded-host']}"


def test_the_pages_addresses_begin_with_what_the_browser_says() -> None:
    assert page_root() == "http://here"
    assert page_root(x_forwarded_proto="https") == "https://here"
    assert page_root(x_forwarded_prefix="/digits") == "http://here/digits"
    front = {"origin": "https://front:81"}
    assert page_root(**front) == "https://front:81"
    assert page_root(**front, referer="https://front:81/a/b/") == "https://front:81/a/b"
    assert page_root(**front, referer="https://front:81/a/docs?x=/c/d") == "https://front:81/a"
    assert page_root(**front, referer="https://front:81/a/", x_forwarded_prefix="/digits") == "https://front:81/digits"
    for other in ("https://elsewhere/a/", "https://front:811/a/", "https://front:81/<b>/", "https://[/a/", "x"):
        assert page_root(**front, referer=other) == "https://front:81"


def test_what_any_client_can_say_of_the_host_is_not_repeated() -> None:
    assert page_root(x_forwarded_host="evil.example") == "http://here"
    for host in ("evil.example/x?", "a b", "user@evil.example", ""):
        assert page_root(host=host) == "http://localhost"


OWN = [
    {"host": "127.0.0.1:1"},
    {"host": "127.0.0.1:1", "origin": "http://127.0.0.1:1"},
    {"host": "127.0.0.1", "origin": "http://127.0.0.1:8083"},  # nginx's $host drops the port
    {"host": "localhost:443", "origin": "https://localhost"},
    {"host": "127.0.0.1:1", "origin": "http://front:8083", "sec-fetch-site": "same-origin"},  # nginx by default
    {"host": "127.0.0.1:1", "origin": "http://front", "x-forwarded-host": "front"},  # Apache
    {"host": "127.0.0.1:1", "origin": "http://front:8083", "x-forwarded-host": "front:8083, inner"},
    {"host": "127.0.0.1:1", "origin": "https://Models.example.org:8443"},  # --allowed-hosts
    {"host": "models.example.org", "origin": "https://models.example.org", "x-forwarded-host": "other"},
]
FOREIGN = [
    {"host": "127.0.0.1:1", "origin": "http://127.0.0.1:2"},
    {"host": "127.0.0.1:1", "origin": "https://evil.example"},
    {"host": "127.0.0.1:1", "origin": "https://evil.example", "sec-fetch-site": "cross-site"},
    {"host": "127.0.0.1:1", "origin": "https://evil.example", "x-forwarded-host": "front"},
    {"host": "127.0.0.1:1", "origin": "null"},
    {"host": "127.0.0.1:1", "origin": "null", "x-forwarded-host": "null"},
    {"host": "127.0.0.1:1", "origin": "http://"},
    {"host": "127.0.0.1:1", "origin": ""},
    {"host": "evil.example", "origin": "http://evil.example"},  # DNS rebinding
    {"host": "evil.example", "x-forwarded-host": "127.0.0.1:1"},
]


@pytest.mark.parametrize("headers", OWN, ids=str)
def test_a_proxy_is_no_other_web_site(headers: dict[str, str]) -> None:
    Access(ServeConfig(allowed_hosts=("models.example.org",))).check_address(Headers(headers))


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_another_web_site_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(RequestError, match="--allowed-hosts") as refused:
        Access(ServeConfig(allowed_hosts=("models.example.org",))).check_address(Headers(headers))
    assert refused.value.status in (403, 421)
