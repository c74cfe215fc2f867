"""Decides who may send requests: hosts, origins, the token and its login page."""

import asyncio
import hashlib
import html
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from dlcommon.runtime.serving.errors import RequestError
from dlcommon.runtime.serving.proxied import first_of
from dlcommon.runtime.serving.settings import ServeConfig

LOOPBACK = ("localhost", "127.0.0.1", "::1")
WRONG_TOKEN_SECONDS = 0.5

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Token</title><style>
:root {{ color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }}
body {{ display: grid; place-items: center; min-height: 90vh; margin: 1rem; }}
form {{ display: grid; gap: .75rem; width: min(22rem, 100%); }}
input, button {{ font: inherit; padding: .6rem .8rem; border-radius: .5rem; border: 1px solid #8888; }}
button {{ background: #1d4ed8; color: white; border: 0; cursor: pointer; }}
p {{ margin: 0; }} .wrong {{ color: #dc2626; }}
</style><form method="post" action="login"><label for="token">Token · 口令</label>
<input id="token" name="token" type="password" autocomplete="current-password" autofocus required>
<button>Open · 打开</button>{message}</form></html>"""


def _same(left: str, right: str) -> bool:
    """Compares in constant time; the digests hide the lengths as well."""
    digests = (hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest() for text in (left, right))
    return secrets.compare_digest(*digests)


def _host_name(netloc: str) -> str:
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


class Access:
    """Decides on each request before anything of it is read."""

    def __init__(self, settings: ServeConfig) -> None:
        self._token = settings.token
        self._session = secrets.token_urlsafe(32)
        # Browsers send a cookie to every port of a host, so each process has a name of its own.
        self._cookie = f"dl_session_{secrets.token_hex(4)}"
        self._own_names = {name.lower() for name in settings.allowed_hosts}
        self._hosts = {*LOOPBACK, settings.host, *self._own_names} if settings.is_local else None

    def check_address(self, headers: Headers) -> None:
        """Refuses what another web site makes a browser send: a foreign Host (DNS rebinding) or Origin.

        A proxy may have changed Host, and dropped or changed its port. An Origin is this server's own if the browser
        says so (Sec-Fetch-Site, which no script can set), if it is Host's or X-Forwarded-Host's (which another site's
        script could only set after asking, which is refused), or if its name is among `--allowed-hosts`.

        Raises:
            RequestError: 421 or 403.
        """
        host = headers.get("host", "")
        if self._hosts is not None and host and _host_name(host) not in self._hosts:
            reason = "this server does not answer to that Host; if it is a name of its own, see --allowed-hosts"
            raise RequestError(421, "unknown_host", reason)
        origin = headers.get("origin")
        if origin is not None and not self._is_own(origin.lower(), headers):
            reason = "requests from other web sites are not accepted; if this one is its own, see --allowed-hosts"
            raise RequestError(403, "cross_origin", reason)

    def _is_own(self, origin: str, headers: Headers) -> bool:
        if headers.get("sec-fetch-site") == "same-origin":
            return True
        scheme, _, netloc = origin.partition("://")
        name = _host_name(netloc)
        if not name:
            return False
        default_port = {"http": ":80", "https": ":443"}.get(scheme, "")
        for told in (headers.get("host", ""), first_of(headers, "x-forwarded-host")):
            # nginx's $host has lost the port.
            if told.lower() in (netloc, netloc + default_port, name):
                return True
        return name in self._own_names

    def check_token(self, headers: Headers) -> None:
        """Checks for the token, or for a session that it opened.

        Raises:
            RequestError: 401.
        """
        if self._token is None:
            return
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(credentials.strip(), self._token):
            return
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            cookie = None
        if cookie is not None and _same(cookie.value, self._session):
            return
        raise RequestError(
            401, "unauthorized", "send the header Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"}
        )

    async def slow_down(self) -> None:
        """Waits before a wrong token is answered, so that guessing takes long."""
        await asyncio.sleep(WRONG_TOKEN_SECONDS)

    def login_page(self, message: str = "") -> Response:
        text = f'<p class="wrong" role="alert">{html.escape(message)}</p>' if message else ""
        return HTMLResponse(_PAGE.format(message=text), status_code=401)

    async def login(self, request: Request) -> Response:
        """Shows the form (GET), or opens a session with the right token (POST)."""
        home = "./"  # the page, wherever a proxy shows it
        if self._token is None:
            return RedirectResponse(home, 303)
        if request.method != "POST":
            return self.login_page()
        body = (await request.body())[:4096].decode("utf-8", "replace")
        token = parse_qs(body, max_num_fields=4).get("token", [""])[0]
        if not _same(token.strip(), self._token):
            await self.slow_down()
            return self.login_page("That is not the token. · 口令不正确。")
        response = RedirectResponse(home, 303)
        secure = request.url.scheme == "https"
        response.set_cookie(self._cookie, self._session, httponly=True, samesite="strict", secure=secure)
        return response
