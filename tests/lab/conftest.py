"""Labs that answer within the process of the tests."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from striate.lab.application import make_application
from striate.lab.workbench import Lab

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would like httpx2 better than httpx
    from starlette.testclient import TestClient

HOME = "http://127.0.0.1:8000"


@pytest.fixture
def open_lab() -> Iterator[Callable[..., TestClient]]:
    """`open_lab(run=None, unlabeled=None)` gives a client that has shown the token."""
    labs: list[Lab] = []

    def start(run: Path | None = None, unlabeled: Path | None = None) -> TestClient:
        lab = Lab(run, unlabeled)
        labs.append(lab)
        client = TestClient(make_application(lab, 8000), base_url=HOME)
        client.headers["striate-key"] = lab.token
        assert client.get("/", params={"token": lab.token}).status_code == 200
        return client

    yield start
    for lab in labs:
        lab.end()


@pytest.fixture
def client(open_lab: Callable[..., TestClient]) -> TestClient:
    """A client of a lab without a run."""
    return open_lab()
