"""What lies elsewhere: official places that give something else, caches that others write to, the environment."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from quick import few_quick
from striate.data.sources import download as download_module
from striate.data.sources.download import download
from striate.data.sources.named import DatasetInfo, RemoteFile
from striate.errors import DataError
from striate.machine.cache import read_plan, save_plan


class Place(BaseHTTPRequestHandler):
    """A place on this machine that answers as an attacker on the way would."""

    answers: ClassVar[dict[str, tuple[int, dict[str, str], bytes]]] = {}

    def do_GET(self) -> None:
        code, headers, body = self.answers[self.path]
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(ConnectionError):  # who downloads has read enough
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def place() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Place)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def entry(url: str, content: bytes = b"right") -> DatasetInfo:
    file = RemoteFile("train.tar.gz", url, len(content), hashlib.sha256(content).hexdigest())
    return DatasetInfo("some", "t", "image", (1, 0), ("a",), (1, 2, 2), "x", "x", (file,))


ANSWERS = {
    "other": (200, {}, b"wrong"),
    "more": (200, {}, b"right" * 1_000_000),
    "less": (200, {}, b"rig"),
    "error": (500, {}, b"right"),
    "to-a-file": (302, {"Location": "file:///etc/passwd"}, b""),
    "round": (302, {"Location": "/round"}, b""),
    "lying-length": (200, {"Content-Length": "999"}, b"rig"),
    "to-another": (302, {"Location": "/other"}, b""),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_is_not_the_published_file_never_gets_its_name(place, name, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(download_module, "TIMEOUT_SECONDS", 5)
    Place.answers = {f"/{key}": answer for key, answer in ANSWERS.items()}
    with pytest.raises(DataError, match="could not be downloaded"):
        download(entry(f"{place}/{name}"), tmp_path / "sets")
    assert not [path for path in (tmp_path / "sets").rglob("*") if path.is_file()]


def test_a_redirection_to_the_right_file_is_followed(place, tmp_path) -> None:
    Place.answers = {"/old": (302, {"Location": "/new"}, b""), "/new": (200, {}, b"right")}
    assert download(entry(f"{place}/old"), tmp_path / "sets").read_bytes() == b"right"


# Caches


def test_a_kept_plan_that_is_no_file_or_no_plan_counts_as_none(monkeypatch) -> None:
    cache = Path("cache")
    monkeypatch.setenv("STRIATE_CACHE", str(cache))
    key = {"a": 1}
    assert save_plan("training", key, {"b": 2})
    assert read_plan("training", key) == {"b": 2}
    (file,) = (cache / "plans").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    for text in (
        "",
        "[" * 100_000,
        '{"key": {"a": 1}}',
        '{"key": {"a": 2}, "plan": {}}',
        '{"key": {"a": 1}, "plan": 3}',
    ):
        file.write_text(text)
        assert read_plan("training", key) is None
    file.unlink()
    os.mkfifo(file)
    assert read_plan("training", key) is None


def test_a_plan_is_not_written_through_a_link(monkeypatch, tmp_path) -> None:
    cache = Path("cache")
    monkeypatch.setenv("STRIATE_CACHE", str(cache))
    save_plan("training", {"a": 1}, {})
    (file,) = (cache / "plans").iterdir()
    file.unlink()
    (tmp_path / "precious").write_text("mine")
    file.symlink_to(tmp_path / "precious")
    assert save_plan("training", {"a": 1}, {"b": 2})
    assert (tmp_path / "precious").read_text() == "mine"
    assert not file.is_symlink()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_a_plan_of_another_user_is_not_believed(monkeypatch) -> None:
    monkeypatch.setenv("STRIATE_CACHE", "cache")
    save_plan("training", {"a": 1}, {"b": 2})
    (file,) = Path("cache/plans").iterdir()
    os.chown(file, 12345, -1)
    assert read_plan("training", {"a": 1}) is None


# The environment


VARIABLES = ["STRIATE_DATA", "STRIATE_CACHE", "XDG_CACHE_HOME", "TMPDIR", "COLUMNS", "HOME"]
STRANGE = ["", "/dev/null", "/nowhere\x1b[2J", "~nobody-here", "x" * 5000, "-1"]
PAIRS = [(name, value) for name in VARIABLES for value in STRANGE]


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("name", "value"), few_quick(PAIRS, PAIRS[::20], unpack=True))
def test_strange_values_of_the_environment(striate, monkeypatch, name, value) -> None:
    monkeypatch.setenv(name, value)
    for words in (("datasets",), ("models",), ("data", "show", "mnist5k", "--count", "1", "--out", "x.png", "--force")):
        told = striate(*words)
        assert told.code in (0, 1, 2)
        assert "a fault in striate" not in told.err
        assert "\x1b" not in told.out + told.err
