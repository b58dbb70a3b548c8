"""Freed memory stays or goes, and what held before is put back."""

from __future__ import annotations

import subprocess
import sys

import pytest

from striate.machine import allocator

needs_glibc = pytest.mark.skipif(not allocator.available(), reason="the allocator is not glibc's")

_FAULTS = """
import ctypes, numpy as np, resource
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: pages of 4 KiB, so that they can be counted
from striate.machine import allocator
{begin}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def use():
    np.ones({size}, dtype=np.uint8)
use(); use()
before = faults()
for _ in range(20): use()
kept = faults() - before
assert allocator.give_back()
use()
before = faults()
for _ in range(20): use()
print(kept, faults() - before, allocator.policy())
"""


def faults(begin: str, megabytes: int = 40) -> tuple[int, int, str]:
    """New pages for twenty arrays of that size: after `begin`, and after the memory was given back."""
    program = _FAULTS.format(begin=begin, size=megabytes * 10**6)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second, policy = done.stdout.split()
    return int(first), int(second), policy


@pytest.mark.slow
@needs_glibc
def test_kept_memory_needs_no_new_pages_and_given_back_it_does() -> None:
    kept, given, policy = faults("assert allocator.keep_freed_memory()")
    assert kept < 200 < 10_000 < given
    assert policy == "system"


@pytest.mark.slow
@needs_glibc
def test_given_back_it_is_as_in_a_process_that_was_told_nothing() -> None:
    for megabytes in (4, 20):
        untold, given, _ = faults("", megabytes)
        assert max(untold, given) < 4_000, megabytes  # 20 times 1,000 or 5,000 pages if each went back at once
    untold, given, _ = faults("", 40)
    assert min(untold, given) > 10_000


@needs_glibc
def test_policy_is_put_back_also_when_the_body_raises() -> None:
    assert allocator.policy() == "system"
    seen = []

    def work() -> None:
        with allocator.allocator_policy("keep"), allocator.allocator_policy(None):
            seen.append(allocator.policy())
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert seen == ["keep"]
    assert allocator.policy() == "system"


def test_elsewhere_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "available", lambda: False)
    assert not allocator.keep_freed_memory()
    assert not allocator.give_back()
    with allocator.allocator_policy("keep"):
        assert allocator.policy() == "system"


@needs_glibc
def test_only_the_program_keeps_without_being_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "_state", {"policy": "system", "usual": "system"})
    assert allocator.usual_policy() == "system"
    allocator.keep_by_default()
    assert (allocator.usual_policy(), allocator.policy()) == ("keep", "system")
