"""One cache folder for all that is kept, and none where others could put things."""

from __future__ import annotations

from pathlib import Path

import pytest

from striate.data.config import DataConfig
from striate.data.read import load_dataset
from striate.data.store.pack import packs_folder
from striate.errors import ConfigError, DataError
from striate.machine.cache import cache_folder


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIATE_CACHE", "/own")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    monkeypatch.setenv("HOME", "/home/student")
    assert (cache_folder(), packs_folder(None)) == (Path("/own"), Path("/own/packs"))
    monkeypatch.delenv("STRIATE_CACHE")
    assert (cache_folder(), packs_folder(None)) == (Path("/somewhere/striate"), Path("/somewhere/striate/packs"))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path("/home/student/.cache/striate")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert packs_folder(None) == Path("/home/student/.cache/striate/packs")
    assert packs_folder("~/here") == Path("/home/student/here")


def test_without_a_home_nothing_lies_where_all_may_write(same_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("STRIATE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    assert cache_folder() is None
    assert packs_folder(None) is None
    assert load_dataset(DataConfig(source=str(same_photos))).store == "memory"
    with pytest.raises(DataError, match=r"--data\.packs \./packs"):
        load_dataset(DataConfig(source=str(same_photos), store="pack"))


def test_a_home_of_nobody_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"data\.packs"):
        packs_folder("~nobody-of-this-name/packs")
    monkeypatch.setenv("STRIATE_CACHE", "~nobody-of-this-name/cache")
    assert cache_folder() is None
