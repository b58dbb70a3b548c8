"""Access checks of requests to the lab: from this machine, with the token or a session, from the lab's own pages, and
of limited size.

A browser shows the token once, in the address that is printed, and gets a session of two random values. One is a
cookie, which no other site's request carries (SameSite=Strict) and no script reads (HttpOnly). Browsers send cookies to
every port of a host, so other programs of this machine may see it; it only opens pages without content. The other
value, the key, is stored where only pages of this port can read it; it opens the content. Checking Host refuses names
that others point at this machine (DNS rebinding), checking Origin requests of other sites. The content security policy
allows a page to run only our scripts, and to send requests only to the lab.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from striate.lab.workbench import Lab

LARGEST_UPLOAD = 16 << 20
"""Largest size of a picture or sound that is sent, in bytes."""
LARGEST_REQUEST = 256 << 10
"""Largest size of any other request, in bytes."""

UPLOAD = "/api/images/upload"
UPLOADS = frozenset((UPLOAD, "/api/predict/upload"))
SIGN_OUT = "/sign-out"
_UPLOADS_AT_ONCE = 4  # uploads in memory; further ones are read when one of these is done
_PATIENCE = 10.0  # seconds until the next bytes of a request
_MOST_SESSIONS = 64
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


@dataclass(frozen=True)
class Session:
    """What a browser gets for the token: the value of its cookie, and the key that its pages send."""

    cookie: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    key: str = field(default_factory=lambda: secrets.token_urlsafe(32))


class Guard:
    """The application behind the checks of this module, at `port` (its cookie has the port in its name)."""

    def __init__(self, app: ASGIApp, lab: Lab, port: int) -> None:
        self._app, self._lab, self._port = app, lab, port
        self._cookie = f"striate-lab-{port}"
        self._sessions: deque[Session] = deque(maxlen=_MOST_SESSIONS)
        self._uploads = asyncio.Semaphore(_UPLOADS_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # there are no other connections
        headers, path = Headers(scope=scope), scope["path"]
        shown = {name: values[0] for name, values in parse_qs(scope["query_string"].decode("latin-1")).items()}
        session = self._session_of(headers)
        token = self._lab.token
        has_token = _same(shown.get("token", ""), token)
        limit = LARGEST_UPLOAD if path in UPLOADS else LARGEST_REQUEST
        refusal = _foreign(headers, self._port)
        if refusal is None and not has_token:
            key = headers.get("striate-key", shown.get("key", ""))
            keys = (token, *(one.key for one in self._sessions))  # programs show the token each time
            known = any(_same(key, one) for one in keys) if path.startswith("/api/") else session is not None
            refusal = None if known else _unknown(path)
        refusal = refusal or _too_large(headers, limit)
        signs_in = has_token and refusal is None and not path.startswith(("/api/", "/static/"))
        if signs_in and session is None:
            session = Session()
            self._sessions.append(session)
            self._lab.signed_in.set()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-cache" if path.startswith("/static/") else "no-store")
                if signs_in and session is not None:
                    headers.append("set-cookie", f"{self._cookie}={session.cookie}; Path=/; HttpOnly; SameSite=Strict")
            await send(message)

        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
            return
        if path == SIGN_OUT and scope["method"] == "POST":
            if session is not None:
                self._sessions.remove(session)
            await Response(status_code=204)(scope, receive, send_with_headers)
            return
        if signs_in and session is not None:
            scope.setdefault("state", {})["key"] = session.key
        async with self._uploads if path in UPLOADS else nullcontext():
            content = await _content(receive, limit)
            if isinstance(content, bytes) and path not in UPLOADS and _has_half_characters(content):
                content = _refuse(400, "half of a character (a lone surrogate)", "text in Unicode")
            if isinstance(content, bytes):
                await self._app(scope, _again(content, receive), send_with_headers)
            elif content is not None:
                await content(scope, receive, send_with_headers)

    def _session_of(self, headers: Headers) -> Session | None:
        # Browsers also send cookies of other programs on this machine, in any form.
        shown = cookie_parser(headers.get("cookie", "")).get(self._cookie, "")
        return next((one for one in self._sessions if _same(shown, one.cookie)), None)


def _same(shown: str, known: str) -> bool:
    return hmac.compare_digest(shown.encode("utf-8", "replace"), known.encode())


async def _content(receive: Receive, limit: int) -> bytes | Response | None:
    """The body of a request; the refusal of a body that is too large (also without a content-length) or stops arriving;
    None where the client has disconnected."""
    pieces, size = [], 0
    while True:
        try:
            message = await asyncio.wait_for(receive(), _PATIENCE)
        except TimeoutError:
            return _refuse(408, "a request that stopped arriving", f"its next bytes within {_PATIENCE:.0f} seconds")
        if message["type"] != "http.request":
            return None
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > limit:
            return _too_much(limit)
        if not message.get("more_body", False):
            return b"".join(pieces)


def _again(content: bytes, receive: Receive) -> Receive:
    """`receive` for the application: the body that was read, then the messages after it."""
    messages: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def next_message() -> Message:
        return messages.pop() if messages else await receive()

    return next_message


def _has_half_characters(content: bytes) -> bool:
    """Whether the content is JSON with a lone surrogate, which no response can contain."""
    if b"\\u" not in content:
        return False
    try:
        json.dumps(json.loads(content), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except (ValueError, RecursionError):
        return False  # not JSON, which is refused where it is parsed
    return False


def _too_large(headers: Headers, limit: int) -> Response | None:
    announced = headers.get("content-length", "0")
    if announced.isdigit() and len(announced) <= 12 and int(announced) <= limit:
        return None
    return _too_much(limit, f"{announced[:12]} bytes")


def _too_much(limit: int, size: str = "a request that is too large") -> Response:
    return _refuse(413, size, f"at most {limit:,} bytes")


def _foreign(headers: Headers, port: int) -> Response | None:
    """The refusal of a request from another site, or to another host name; None for all other requests."""
    host = headers.get("host", "")
    name, _, number = host.partition(":")
    if name.lower() not in _HOSTS or (number or "80") != str(port):  # which browsers leave out
        return _refuse(403, "a request to another name or port than the lab's", f"http://127.0.0.1:{port}")
    origin = headers.get("origin")
    if origin is not None and origin.lower() != f"http://{host.lower()}":
        return _refuse(403, "a request from the page of another site", "one from the lab's own pages")
    return None


def _unknown(path: str) -> Response:
    if path.startswith("/api/"):
        return _refuse(401, "a browser that is not signed in", "one that has shown the lab's token")
    return PlainTextResponse(
        "This lab does not know your browser. Open the address that `striate lab` printed, with its token.\n", 401
    )


def _refuse(status: int, got: str, expected: str) -> Response:
    record = {"where": "the lab", "got": got, "expected": expected, "remedy": _REMEDIES[status]}
    return JSONResponse({"error": record}, status)


_REMEDIES = {
    400: "leave that character out",
    401: "open the address that `striate lab` printed, with its token",
    403: "open the address that `striate lab` printed",
    408: "send it again",
    413: "send a smaller file",
}
