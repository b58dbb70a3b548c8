"""Access checks of requests: the token, the host, the origin, and the size."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Mapping
from time import monotonic

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from striate.serving.finite_json import FiniteJSON

OPEN = ("/", "/health", "/static/page.js", "/static/page.css")
"""Paths that show nothing of a run and need no token."""
EVERYWHERE = ("0.0.0.0", "::", "")
"""Addresses that mean every interface, for which any host name is accepted."""
_OWN = frozenset(("127.0.0.1", "localhost", "[::1]"))
_PATIENCE = 10.0  # seconds until the next bytes of a request
_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class TooLarge(Exception):
    """A request with too many bytes."""


class TooSlow(Exception):
    """A request whose next bytes do not arrive in time."""


class AccessChecks:
    """The application behind the checks of this module, served under the name `host`; `largest`: bytes of a request.
    `count` is called with the path of each request, its status, and the seconds until the response began."""

    def __init__(
        self, app: ASGIApp, token: str, host: str, largest: int, count: Callable[[str, int, float], None]
    ) -> None:
        self._app, self._token, self._largest, self._count = app, token, largest, count
        self._names = None if host in EVERYWHERE else _OWN | {host.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        # starlette's Headers would decode and search all of them for each lookup; the first of a name counts.
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}
        began = monotonic()
        refusal = self._refusal(headers, scope["path"])

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
                self._count(scope["path"], message["status"], monotonic() - began)
            await send(message)

        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
        else:
            await self._app(scope, self._bounded(receive), send_with_headers)

    def _refusal(self, headers: Mapping[str, str], path: str) -> Response | None:
        host = headers.get("host", "")
        name = (host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host).lower()
        if self._names is not None and name not in self._names:
            return refused(
                403, f"a request to {name or 'no name'}", "a request to the address that striate serve printed"
            )
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            return refused(
                403,
                "a request from the page of another site",
                "a request from a program, or from the page of this server",
            )
        if path not in OPEN and not hmac.compare_digest(
            _token_of(headers).encode("utf-8", "replace"), self._token.encode()
        ):
            return refused(401, "no token, or a wrong one", "the header Authorization: Bearer TOKEN")
        length = headers.get("content-length", "0")
        if not length.isdigit() or len(length) > 12 or int(length) > self._largest:
            return too_large(self._largest)
        return None

    def _bounded(self, receive: Receive) -> Receive:
        """`receive`, which raises for more than `largest` bytes, and for bytes that do not arrive in time."""
        taken, whole = 0, False

        async def next_message() -> Message:
            nonlocal taken, whole
            if whole:
                return await receive()  # only the disconnection of the client
            try:
                async with asyncio.timeout(_PATIENCE):  # wait_for would create a task
                    message = await receive()
            except TimeoutError:
                raise TooSlow from None
            taken += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if taken > self._largest:
                raise TooLarge
            return message

        return next_message


def _token_of(headers: Mapping[str, str]) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def refused(status: int, got: str, expected: str) -> FiniteJSON:
    """A refusal as JSON, with its remedy."""
    record = {"where": "the request", "got": got, "expected": expected, "remedy": _REMEDIES[status]}
    return FiniteJSON({"error": record}, status)


def too_large(largest: int) -> FiniteJSON:
    """The refusal of a request with too many bytes."""
    return refused(413, "a request that is too large", f"at most {largest >> 20} MiB")


_REMEDIES = {
    401: "send the token that `striate serve` printed or that was given to it",
    403: "use the address that `striate serve` printed",
    408: "send it again",
    413: "send less, or raise --largest",
    415: "send the bytes of a picture, or several as multipart/form-data",
}
