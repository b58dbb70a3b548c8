"""Home folders in paths."""

from pathlib import Path

import pytest

from striate.errors import RunError
from striate.runs.files import user_path


def test_the_home_folder_is_put_in(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert user_path(" ~/a.pt ") == Path("/home/somebody/a.pt")
    assert user_path("a/~b") == Path("a/~b")


def test_that_of_nobody_is_refused_with_what_to_write():
    with pytest.raises(RunError) as caught:
        user_path("~nosuchuser/a.pt")
    assert "~nosuchuser" in caught.value.got
    assert f"{Path.cwd()}/~nosuchuser/a.pt" in caught.value.remedy
    assert user_path(f"{Path.cwd()}/~nosuchuser/a.pt") == Path.cwd() / "~nosuchuser/a.pt"
