"""Who may ask: every request passes here before anything else looks at it.

The server answers only to names of this machine (any port, so that a forwarded one works), only to a caller with the
token, and only to reading requests. A page of another site can neither send the cookie (SameSite=Strict) nor read an
answer (no CORS), and a name that resolves to this machine is refused by its name.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPMethod
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Host names that are answered, with any port."""
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
_HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
]


def new_token() -> str:
    """Returns a random token that cannot be guessed."""
    return secrets.token_urlsafe(24)


class Guard:
    """An ASGI application in front of another one: checks host, method and token, and sets the headers of answers."""

    def __init__(self, app: App, token: str) -> None:
        self._app = app
        self._token = token
        # Cookies do not differ by port: two pages on one machine need cookies of two names.
        name = hashlib.sha256(b"name" + token.encode()).hexdigest()[:12]
        self._cookie = f"vfs-page-{name}"
        self._secret = hashlib.sha256(b"cookie" + token.encode()).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or hands it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if scope["method"] not in (HTTPMethod.GET, HTTPMethod.HEAD):
            await _answer(send, 405, "This page only reads.")
        elif _host_name(headers.get(b"host", b"")) not in NAMES:
            await _answer(send, 421, "This server answers to localhost and 127.0.0.1 alone.")
        elif not _is_own(headers):
            await _answer(send, 403, "Another site's page asked for this.")
        elif self._has_cookie(headers.get(b"cookie", b"")):
            await self._app(scope, receive, _with_headers(send))
        elif self._has_token(scope["query_string"]):
            await self._let_in(scope, send)
        else:
            await _answer(send, 401, "Open the address that was printed in the terminal: it has the token.")

    def _has_cookie(self, header: bytes) -> bool:
        try:
            morsel = SimpleCookie(header.decode("latin-1")).get(self._cookie)
        except CookieError:
            return False
        return morsel is not None and hmac.compare_digest(morsel.value.encode(), self._secret.encode())

    def _has_token(self, query: bytes) -> bool:
        given = dict(parse_qsl(query.decode("latin-1"))).get("token", "")
        return hmac.compare_digest(given.encode(), self._token.encode())

    async def _let_in(self, scope: Scope, send: Send) -> None:
        """Sets the cookie and goes to the same address without the token."""
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True, encoding="latin-1")
        rest = urlencode([(key, value) for key, value in query if key != "token"], encoding="latin-1")
        # The raw path can begin with two slashes, or what browsers take for one, which would name another host.
        path = "/" + scope.get("raw_path", scope["path"].encode()).decode("latin-1").lstrip("/\\")
        cookie = f"{self._cookie}={self._secret}; Path=/; HttpOnly; SameSite=Strict"
        location = (path + (f"?{rest}" if rest else "")).encode("latin-1")
        await _answer(send, 303, "", [(b"location", location), (b"set-cookie", cookie.encode())])


def _is_own(headers: dict[bytes, bytes]) -> bool:
    """Whether a request is this page's, or the user's who follows a link.

    Of another port of this machine the browser sends the cookie too: a site has no port.
    """
    site = headers.get(b"sec-fetch-site", b"none")
    if site == b"same-site":
        return headers.get(b"sec-fetch-mode") == b"navigate" and headers.get(b"sec-fetch-dest") == b"document"
    return site in (b"none", b"same-origin")


def _host_name(header: bytes) -> str:
    host = header.decode("latin-1").lower()
    name, colon, port = host.rpartition(":")
    return name if colon and (port.isdecimal() or not port) and not host.endswith("]") else host


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
        await send(message)

    return sending


async def _answer(send: Send, status: int, text: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    body = text.encode()
    start = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": [*start, *_HEADERS, *(headers or [])]})
    await send({"type": "http.response.body", "body": body})
