"""Memory figures follow what a process does."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from striate.machine import memory

MIB = 2**20


def test_the_peak_follows_what_was_held() -> None:
    held = bytearray(b"\1") * (64 * MIB)
    assert memory.peak_bytes() >= len(held)


def test_the_peak_is_this_process_s_own_not_its_parent_s() -> None:
    held = bytearray(b"\1") * (256 * MIB)
    code = "from striate.machine.memory import peak_bytes; print(peak_bytes())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(held)
    assert 4 * MIB < int(done.stdout) < 200 * MIB


def test_a_container_s_limit_counts_where_it_is_lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free, whole = memory.available_bytes(), memory.total_bytes()
    assert 0 < free <= whole
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    (tmp_path / "memory.max").write_text(f"{4 * MIB}\n")
    (tmp_path / "memory.current").write_text(f"{MIB}\n")
    assert (memory.available_bytes(), memory.total_bytes()) == (3 * MIB, 4 * MIB)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.total_bytes() >= whole


def test_old_objects_are_left_alone_and_looked_through_again_afterwards() -> None:
    was_frozen = gc.get_freeze_count()
    gc.unfreeze()
    try:
        with memory.only_new_garbage():
            assert gc.get_freeze_count() > 1000
            with memory.only_new_garbage():  # somebody else's
                pass
            assert gc.get_freeze_count() > 1000
        assert gc.get_freeze_count() == 0
        with pytest.raises(ZeroDivisionError), memory.only_new_garbage():
            1 / 0  # noqa: B018
        assert gc.get_freeze_count() == 0
    finally:
        if was_frozen:
            gc.freeze()
