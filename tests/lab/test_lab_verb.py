"""`striate lab` as it is typed: it says when it answers, and ends when it is told to."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest

from striate.cli import main

RUN = [sys.executable, "-m", "striate", "lab", "--no-open"]


@pytest.mark.parametrize(
    ("number", "options"),
    [(signal.SIGTERM, ["--json"]), pytest.param(signal.SIGINT, ["--port", "0"], marks=pytest.mark.slow)],
)
def test_it_prints_its_address_and_answers_and_ends_with_connections_open(number: int, options: list[str]) -> None:
    with subprocess.Popen([*RUN, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        line = program.stdout.readline()
        url = json.loads(line)["url"] if "--json" in options else line.strip()
        parts = urlsplit(url)
        assert parts.hostname == "127.0.0.1"
        assert parts.query.startswith("token=")
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://{parts.netloc}/", timeout=60)
        # One that waits for the rest of a request, as an event stream waits for events.
        with socket.create_connection((parts.hostname, parts.port or 0)) as waiting:
            waiting.sendall(f"POST /api/images/upload?{parts.query} HTTP/1.1\r\n".encode())
            waiting.sendall(f"Host: {parts.netloc}\r\nContent-Length: 9\r\n\r\nx".encode())
            program.send_signal(number)
            out, err = program.communicate(timeout=60)
    assert program.returncode == 0
    assert out == ""
    assert err == "The lab is open; Ctrl-C ends it.\n"


def test_a_taken_port_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["lab", "--no-open", "--port", str(port)]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert f"{port}: Address already in use" in err
    assert "--port 0" in err


@pytest.mark.parametrize("words", [["--port", "-1"], ["--port", "70000"], ["--port", "x"], ["no-such-run"], ["a", "b"]])
def test_what_cannot_be_served_is_refused(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(["lab", "--no-open", *words, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["remedy"]
