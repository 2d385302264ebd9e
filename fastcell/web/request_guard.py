"""ASGI middleware that refuses requests of other websites and of programs without the token.

A page of another website can make its visitor's browser send requests to a server on a loopback address, and can read
the answers by DNS rebinding. Three checks prevent this: the header ``Host`` must be a loopback name; ``Origin``, if
present, must be the server; and if a token is set, the request must contain it. All answers have a strict
Content-Security-Policy.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of answers that set none: allows only scripts, styles and images of this server."""
MOST_BODY_BYTES = 256 << 20

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::[0-9]*)?")
_HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class RequestGuard:
    """Check requests before an application sees them.

    Args:
        app: the application.
        any_host: accept every ``Host``. For a server on another address than loopback, which must have a token.
        token: secret that a request must contain; None for no token. A program sends it in the header ``Authorization:
            Bearer TOKEN``, a browser opens a link with ``?token=TOKEN`` and gets a cookie.
        once: the link works in one browser only, and the header is refused.
        most_body_bytes: bodies with more bytes are refused with 413.
    """

    def __init__(
        self,
        app: AsgiApp,
        *,
        any_host: bool = False,
        token: str | None = None,
        once: bool = False,
        most_body_bytes: int = MOST_BODY_BYTES,
    ) -> None:
        self._app, self._any_host, self._once = app, any_host, once
        self._token, self._most_bytes = token, most_body_bytes
        self._session = secrets.token_urlsafe(32)
        self._link_used = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = _Headers(scope)
        refused = self._refusal(headers)
        if refused is not None:
            await _answer(send, *refused)
        elif self._token is None or self._is_known(headers):
            await self._app(scope, self._limited(headers, receive), _with_headers(send))
        else:
            await self._let_in(scope, headers, send)

    def _refusal(self, headers: _Headers) -> tuple[int, str] | None:
        """Return status and text for a request that must be refused whoever sends it; None for others."""
        host = headers.only("host")
        if host is None or not (self._any_host or host_name(host) in LOOPBACK_NAMES):
            return 421, "Host must be localhost or 127.0.0.1. Open the address that the command printed."
        origin = headers.only("origin")
        if headers.has("origin") and (origin is None or urlsplit(origin).netloc.lower() != host.lower()):
            return 403, "Origin must be this server. A page of another site has sent the request."
        size = headers.only("content-length")
        if size is not None and size.isdecimal() and int(size) > self._most_bytes:
            return 413, f"the body must have at most {self._most_bytes:,} bytes. Send fewer cells at a time."
        return None

    def _is_known(self, headers: _Headers) -> bool:
        given = headers.only("authorization") or ""
        if not self._once and given[:7].lower() == "bearer " and self._is_token(given[7:].strip()):
            return True
        cookie = SimpleCookie()
        try:
            cookie.load("; ".join(headers.all("cookie")))
        except CookieError:
            return False
        found = cookie.get(_cookie_name(headers))
        return found is not None and hmac.compare_digest(found.value.encode(), self._session.encode())

    def _is_token(self, text: str) -> bool:
        return self._token is not None and hmac.compare_digest(text.encode(), self._token.encode())

    async def _let_in(self, scope: Scope, headers: _Headers, send: Send) -> None:
        """Handle a request without session cookie: a link with the token sets the cookie and redirects to the page."""
        query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        token = next((value for name, value in query if name == "token"), "")
        if scope["method"] != "GET" or not self._is_token(token):
            await _answer(send, 401, "the token is missing or wrong. Take the address or the token that was printed.")
            return
        if self._once and self._link_used:
            await _answer(send, 401, "the link was used before. Start the command again for a new one.")
            return
        self._link_used = True
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        place = quote("/" + scope["path"].lstrip("/\\")) + (f"?{rest}" if rest else "")
        cookie = f"{_cookie_name(headers)}={self._session}; Path=/; HttpOnly; SameSite=Strict"
        await _answer(send, 303, "", [(b"location", place.encode()), (b"set-cookie", cookie.encode())])

    def _limited(self, headers: _Headers, receive: Receive) -> Receive:
        """Return a `receive` that stops a body of unknown length at the limit."""
        if headers.only("content-length") is not None:
            return receive
        received = 0

        async def limited() -> MutableMapping[str, Any]:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._most_bytes:
                from starlette.exceptions import HTTPException

                raise HTTPException(413, f"the body must have at most {self._most_bytes:,} bytes")
            return message

        return limited


def host_name(host: str) -> str:
    """Return the name in a ``Host`` header, without port, in lower case; an empty text for another form."""
    found = _HOST.fullmatch(host)
    return found[1].lower().rstrip(".") if found else ""


class _Headers:
    """Headers of a request by lower-case name; a header that must be unique is ignored if it occurs several times."""

    def __init__(self, scope: Scope) -> None:
        self._pairs = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]

    def all(self, name: str) -> list[str]:
        return [value for other, value in self._pairs if other == name]

    def has(self, name: str) -> bool:
        return bool(self.all(name))

    def only(self, name: str) -> str | None:
        found = self.all(name)
        return found[0] if len(found) == 1 else None


def _cookie_name(headers: _Headers) -> str:
    """Return the name of the cookie, with the port, because browsers share cookies between the ports of a machine."""
    port = "".join(letter for letter in (headers.only("host") or "").rpartition(":")[2] if letter.isdigit())
    return f"fastcell_{port or 80}"


async def _answer(send: Send, status: int, text: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    body = f"{text}\n".encode() if text else b""
    first = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    start = {"type": "http.response.start", "status": status, "headers": [*first, *(headers or [])]}
    await _with_headers(send)(start)
    await send({"type": "http.response.body", "body": body})


def _with_headers(send: Send) -> Send:
    """Return a `send` that adds the headers of `_HEADERS` unless the answer sets them itself."""

    async def extended(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message.get("headers", [])}
            added = [(name.encode(), text.encode()) for name, text in _HEADERS.items() if name.encode() not in present]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return extended
