"""Whether freed memory stays with the process: glibc's `mallopt`.

A training step allocates and frees the same large tensors again and again. glibc returns each of them to the system
(`munmap`), and the next step gets new pages, which the kernel has to fill with zeros. Pages that stay are reused at
once. Threads other than the main one have their own heaps, of 64 MiB at most, which are returned as well, so that their
memory was mapped anew for each batch. With one heap for all threads, a ResNet-18 at 224 × 224 in batches of 27 went
from 45 to 56 images/s. Source: mallopt(3), M_MMAP_MAX, M_TRIM_THRESHOLD and M_ARENA_MAX.
"""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Policy = Literal["keep", "system"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -3, -4, -8  # malloc.h
_USUAL_TRIM, _USUAL_MMAP, _USUAL_MMAP_MAX = 64 * 2**20, 32 * 2**20, 65_536
"""What glibc's own adjustment arrives at where tensors are freed: it follows the largest piece, up to 32 MiB, and trims
from twice that on. Its first values, 128 KiB, would make plain steps up to 1.8 times as slow as in a new process."""
_NEVER_TRIM = 2**31 - 1  # an int: 2 GiB of free memory at the end of the heap before any goes back

_LOCK = threading.Lock()
_state: dict[str, Policy] = {"policy": "system", "usual": "system"}


def available() -> bool:
    """Whether this process' allocator is glibc's."""
    return platform.libc_ver()[0] == "glibc"


def keep_freed_memory() -> bool:
    """Keep freed memory in the process from now on. False where the allocator is not glibc's.

    Peak memory is the same or somewhat larger (gaps in the heap that fit nothing). Other processes get the memory only
    after `give_back`, or when this process ends.
    """
    return _set("keep", _NEVER_TRIM, 0)


def give_back() -> bool:
    """Return to glibc's usual behavior in a process with large tensors, and give free memory back to the system. False
    where the allocator is not glibc's."""
    if not _set("system", _USUAL_TRIM, _USUAL_MMAP_MAX):
        return False
    _libc().malloc_trim(0)
    return True


def trim() -> None:
    """Give freed memory back to the system, if the allocator can; its policy stays."""
    if available():
        _libc().malloc_trim(0)


def policy() -> Policy:
    """The current policy."""
    return _state["policy"]


def usual_policy() -> Policy:
    """The default policy of a run: `keep` in the program `striate`, `system` where striate is a library."""
    return _state["usual"]


def keep_by_default() -> None:
    """Make `keep` the default, and let all threads that start from now on share one heap. For a process of striate's
    own, before its first thread."""
    if available():
        _state["usual"] = "keep"
        _libc().mallopt(_M_ARENA_MAX, 1)


@contextmanager
def allocator_policy(wanted: Policy | None) -> Iterator[None]:
    """The policy while open (None: unchanged). Afterwards the one before is restored, and free memory goes back to the
    system."""
    before = policy()
    if wanted is None or wanted == before:
        yield
        return
    _apply(wanted)
    try:
        yield
    finally:
        _apply(before)


def _apply(wanted: Policy) -> None:
    if wanted == "keep":
        keep_freed_memory()
    else:
        give_back()


def _set(policy: Policy, trim: int, mmap_max: int) -> bool:
    if not available():
        return False
    with _LOCK:
        libc = _libc()
        # Any of these calls permanently ends glibc's own adjustment of the threshold.
        libc.mallopt(_M_MMAP_THRESHOLD, _USUAL_MMAP)
        libc.mallopt(_M_TRIM_THRESHOLD, trim)
        libc.mallopt(_M_MMAP_MAX, mmap_max)
        _state["policy"] = policy
    return True


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
