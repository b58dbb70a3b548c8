"""Kept plans: found again under the same key only, and never in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from striate.machine.cache import read_plan, save_plan

KEY = {"network": "a", "shape": (3, 32, 32), "machine": {"cores": 2}}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_plan_is_found_under_its_own_key_and_kind_only() -> None:
    assert read_plan("inference", KEY) is None
    assert save_plan("inference", KEY, {"precision": "bf16", "rates": (1.5, 2.0)})
    assert read_plan("inference", dict(reversed(KEY.items()))) == {"precision": "bf16", "rates": [1.5, 2.0]}
    assert read_plan("training", KEY) is None
    assert read_plan("inference", KEY | {"shape": (3, 32, 33)}) is None
    assert save_plan("inference", KEY, {"precision": "fp32"})
    assert read_plan("inference", KEY) == {"precision": "fp32"}


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"plan": {}}', '{"key": {}, "plan": {"precision": "fp8"}}', "\0", "[" * 200_000]
)
def test_a_damaged_plan_counts_as_none(own_cache: Path, damage: str) -> None:
    save_plan("inference", KEY, {"precision": "bf16"})
    (file,) = (own_cache / "plans").iterdir()
    file.write_text(damage, encoding="utf-8")
    assert read_plan("inference", KEY) is None


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "file"))
    assert not save_plan("inference", KEY, {"precision": "bf16"})
    assert read_plan("inference", KEY) is None


def test_without_a_folder_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("striate.machine.cache.cache_folder", lambda: None)
    assert not save_plan("inference", KEY, {"precision": "bf16"})
    assert read_plan("inference", KEY) is None
