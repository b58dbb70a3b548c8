"""`striate lab` as it is typed: it says when it answers, and ends when it is told to."""

from __future__ import annotations

import json
import queue
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from striate.cli import main
from striate.cli.lab import _show
from striate.lab.workbench import Lab

RUN = [sys.executable, "-m", "striate", "lab", "--no-open"]


@pytest.mark.parametrize(
    ("number", "options"),
    [
        (signal.SIGTERM, ["--json"]),
        pytest.param(signal.SIGINT, ["--port", "0"], marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, ["--json"], marks=pytest.mark.slow),
    ],
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


def test_the_browser_is_given_a_private_file_in_the_place_of_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: queue.Queue[str] = queue.Queue()
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(webbrowser, "open", shown.put)
    opened = Lab()
    _show("http://127.0.0.1:8000/?token=secret", opened)
    argument = shown.get(timeout=60)
    assert "secret" not in argument
    page = Path(urlsplit(argument).path)
    assert "url=http://127.0.0.1:8000/?token=secret" in page.read_text()
    assert (page.stat().st_mode & 0o777, page.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    opened.signed_in.set()
    for _ in range(6000):
        if not page.parent.exists():
            break
        time.sleep(0.01)
    assert not page.parent.exists()


def test_the_file_goes_when_the_lab_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: queue.Queue[str] = queue.Queue()
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(webbrowser, "open", shown.put)
    opened = Lab()
    _show("http://127.0.0.1:8000/?token=secret", opened)
    page = Path(urlsplit(shown.get(timeout=60)).path)
    opened.end()
    assert not page.parent.exists()
