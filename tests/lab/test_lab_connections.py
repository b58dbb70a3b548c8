"""Connections that ask nothing, or never finish: the lab ends them, and reads no more at once than it may hold."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from striate.lab import security
from striate.lab.security import UPLOAD, Guard
from striate.lab.watching import pass_recorder
from striate.lab.workbench import Lab
from striate.serving import connection
from striate.serving.connection import Connection

Dial = Callable[[bytes], socket.socket]


@pytest.fixture
def dial(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dial]:
    """A lab's doors with nothing behind them; `dial(begun)` opens a connection and sends this."""
    monkeypatch.setattr(connection, "SECONDS", 0.1)
    monkeypatch.setattr(security, "_PATIENCE", 0.1)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]

    async def behind(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("fine")(scope, receive, send)

    guard = Guard(behind, Lab(token="right"), port)
    config = uvicorn.Config(guard, http=Connection, ws="none", lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    opened: list[socket.socket] = []

    def open_connection(begun: bytes) -> socket.socket:
        opened.append(socket.create_connection(("127.0.0.1", port), timeout=30))
        opened[-1].sendall(begun.replace(b"HOST", f"Host: 127.0.0.1:{port}".encode()))
        return opened[-1]

    yield open_connection
    for one in opened:
        one.close()
    server.should_exit = True
    thread.join()


def until_closed(one: socket.socket) -> bytes:
    """All that is answered until the other side ends the connection."""
    answered = b""
    try:
        while piece := one.recv(1 << 16):
            answered += piece
    except ConnectionResetError:
        pass
    return answered


REFUSED = b"POST /api/train/start HTTP/1.1\r\nHOST\r\nContent-Length: 999999\r\n\r\nx"
STOPPED = b"POST /api/images/upload?token=right HTTP/1.1\r\nHOST\r\nContent-Length: 9\r\n\r\nx"
ANSWERED = b"GET /?token=right HTTP/1.1\r\nHOST\r\n\r\n"


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("begun", "answer"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nHOST\r\nX:", b""),
        (REFUSED, b"HTTP/1.1 401"),
        (STOPPED, b"HTTP/1.1 408"),
        (ANSWERED + b"GET /half", b"HTTP/1.1 200"),
        (b"GET / HTTP/1.1\r\nHOST\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", b"HTTP/1.1 401"),
    ],
)
def test_a_connection_that_does_not_go_on_is_ended(dial: Dial, begun: bytes, answer: bytes) -> None:
    assert until_closed(dial(begun)).startswith(answer)


def test_a_head_that_drips_is_ended(dial: Dial) -> None:
    one = dial(b"GET / HTTP/1.1\r\n")
    with suppress(BrokenPipeError, ConnectionResetError):
        for _ in range(1000):
            one.sendall(b"X")
            time.sleep(0.02)
        raise AssertionError("it is still open")


def test_more_connections_than_there_may_be_are_ended(dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SECONDS", 30)
    monkeypatch.setattr(connection, "MOST_CONNECTIONS", 3)
    first = [dial(b"") for _ in range(3)]
    assert until_closed(dial(b"")) == b""
    first[0].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert first[0].recv(99).startswith(b"HTTP/1.1 403")


def test_unfinished_uploads_wait_for_their_turn() -> None:
    reading: set[int] = set()

    async def behind(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("none is complete")

    async def upload(guard: Guard, number: int) -> None:
        async def receive() -> Message:
            reading.add(number)
            await asyncio.sleep(60)
            raise AssertionError

        async def send(message: Message) -> None:
            raise AssertionError

        scope = {"type": "http", "method": "POST", "path": UPLOAD, "query_string": b"token=right"}
        await guard(scope | {"headers": [(b"host", b"127.0.0.1:1")]}, receive, send)

    async def many() -> None:
        guard = Guard(behind, Lab(token="right"), 1)
        tasks = [asyncio.create_task(upload(guard, number)) for number in range(50)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()

    with ThreadPoolExecutor() as thread:  # tests of browsers leave a loop running in this one
        thread.submit(asyncio.run, many()).result()
    assert len(reading) == 4


@pytest.mark.parametrize("refused", [True, False])
def test_tensors_of_a_pass_are_freed_at_once(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    known: list[weakref.ref[Any]] = []
    save = pass_recorder.SavedTensors.save

    def noted(saved: pass_recorder.SavedTensors, tensor: Any) -> Any:
        known.append(weakref.ref(tensor))
        return save(saved, tensor)

    monkeypatch.setattr(pass_recorder.SavedTensors, "save", noted)
    monkeypatch.setattr("striate.lab.watching.watched_network.LARGEST_PASS", 1)
    if refused:
        monkeypatch.setattr(pass_recorder.run_pass, "__defaults__", (10_000,))
    asked = {"model": "conv(4,3) conv(4,3) fc(3)", "input": "1x32x32"}
    gc.disable()
    try:
        codes = [
            client.get("/api/watch/steps", params=asked | {"image": f"mnist5k#{number}"}).status_code
            for number in range(2)
        ]
        assert codes == [422 if refused else 200] * 2
        kept = len(known) // 2 if not refused else 0  # the last pass that was answered stays in the cache
        assert known
        weights = 6
        assert sum(one() is not None for one in known) <= kept + weights
    finally:
        gc.enable()
