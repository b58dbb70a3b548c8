"""Who may ask what: this machine only, with the token, from our own pages, and no more than fits.

A browser gets the token once, in the address that is printed, and from then on shows it in a cookie that no other
site's request carries (SameSite=Strict) and no script reads (HttpOnly). Checking Host keeps out names that others point
at this machine (DNS rebinding), checking Origin what other pages send. The content security policy lets a page
run our scripts only and ask nobody else.
"""

from __future__ import annotations

import hmac
from urllib.parse import parse_qs

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_UPLOAD = 16 << 20
"""Bytes of a picture that is sent."""
LARGEST_REQUEST = 256 << 10
"""Bytes of any other request."""

_HOSTS = frozenset(("127.0.0.1", "localhost"))
_POLICY = "; ".join(
    (
        "default-src 'none'",
        *(f"{what}-src 'self'" for what in ("script", "style", "connect", "font")),
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        *("base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"),
    )
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
}


class Guard:
    """The application behind the checks of this module; `cookie` is the name of its cookie."""

    def __init__(self, app: ASGIApp, token: str, cookie: str) -> None:
        self._app, self._token, self._cookie = app, token, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # there are no other connections
        headers = Headers(scope=scope)
        shown = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        brought = self._is_token(shown)
        refusal = _foreign(headers) or (None if brought or self._has_cookie(headers) else _unknown())
        limit = LARGEST_UPLOAD if scope["path"].startswith("/api/images") else LARGEST_REQUEST
        refusal = refusal or _too_large(headers, limit)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    answer[name] = value
                answer.setdefault("cache-control", "no-cache" if scope["path"].startswith("/static/") else "no-store")
                if brought and refusal is None:
                    answer.append("set-cookie", f"{self._cookie}={shown}; Path=/; HttpOnly; SameSite=Strict")
            await send(message)

        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
            return
        await self._app(scope, _Counted(receive, limit), send_with_headers)

    def _is_token(self, shown: str) -> bool:
        return hmac.compare_digest(shown.encode("utf-8", "replace"), self._token.encode())

    def _has_cookie(self, headers: Headers) -> bool:
        # Cookies of other programs on this machine come along, whatever their form.
        return self._is_token(cookie_parser(headers.get("cookie", "")).get(self._cookie, ""))


class TooLarge(HTTPException):
    """A request whose body is larger than it may be, noticed while it comes in."""

    def __init__(self) -> None:
        super().__init__(413)


class _Counted:
    """What is received, up to a limit: a length need not be announced."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._left = receive, limit

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise TooLarge
        return message


def too_large() -> Response:
    """The answer to a body that is larger than it may be."""
    return _refuse(413, "a request that is too large", f"a picture of at most {LARGEST_UPLOAD >> 20} MiB")


def _too_large(headers: Headers, limit: int) -> Response | None:
    announced = headers.get("content-length", "0")
    return too_large() if not announced.isdigit() or len(announced) > 12 or int(announced) > limit else None


def _foreign(headers: Headers) -> Response | None:
    """The refusal of what another site sends, or sends here under a name of its own; None where all is well."""
    host = headers.get("host", "")
    if host.partition(":")[0].lower() not in _HOSTS:
        return _refuse(403, "a request to another name than this machine's own", "http://127.0.0.1:PORT")
    origin = headers.get("origin")
    if origin is not None and origin.lower() != f"http://{host.lower()}":
        return _refuse(403, "a request from the page of another site", "one from the lab's own pages")
    return None


def _unknown() -> Response:
    return PlainTextResponse(
        "This lab does not know your browser. Open the address that `striate lab` printed, with its token.\n", 401
    )


def _refuse(status: int, got: str, expected: str) -> Response:
    remedy = "open the address that `striate lab` printed" if status == 403 else "send less"
    return JSONResponse({"error": {"where": "the lab", "got": got, "expected": expected, "remedy": remedy}}, status)
