"""Whether freed memory stays with the process: glibc's `mallopt`.

A training step allocates and frees the same large tensors again and again. glibc gives each of them back to the system
(`munmap`), and the next step gets fresh pages, which the kernel has to fill with zeros first. Kept, the pages are
reused at once. Threads other than the main one have heaps of their own, of 64 MiB at most, which go back as well: what
they compute with was mapped anew for each batch, until all threads took from one heap (a ResNet-18 at 224 × 224 in
batches of 27: 56 images/s in place of 45). Source: mallopt(3), M_MMAP_MAX, M_TRIM_THRESHOLD and M_ARENA_MAX.
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
    """From now on memory that is freed stays with the process. False where the allocator is not glibc's.

    Peak memory is what it was or somewhat more (pieces of the heap that fit nothing); what other processes can have
    only comes back with `give_back`, or when this one ends.
    """
    return _set("keep", _NEVER_TRIM, 0)


def give_back() -> bool:
    """Back to what glibc does by itself in a process with large tensors, and what is free now goes back to the system.
    False where the allocator is not glibc's."""
    if not _set("system", _USUAL_TRIM, _USUAL_MMAP_MAX):
        return False
    _libc().malloc_trim(0)
    return True


def trim() -> None:
    """Give what was freed so far back to the system, where the allocator can; nothing about its policy changes."""
    if available():
        _libc().malloc_trim(0)


def policy() -> Policy:
    """What holds now."""
    return _state["policy"]


def usual_policy() -> Policy:
    """What a run takes where nobody asked: `keep` in the program `striate`, `system` where striate is a library."""
    return _state["usual"]


def keep_by_default() -> None:
    """Say that this process is striate's own: runs may keep freed memory without being asked, and all threads that
    begin from now on share one heap. Call it before the first of them."""
    if available():
        _state["usual"] = "keep"
        _libc().mallopt(_M_ARENA_MAX, 1)


@contextmanager
def allocator_policy(wanted: Policy | None) -> Iterator[None]:
    """The policy while open (None: as it is); what held before is put back, and what is free then goes back."""
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
        # Any of these calls ends glibc's own adjustment of the threshold for good.
        libc.mallopt(_M_MMAP_THRESHOLD, _USUAL_MMAP)
        libc.mallopt(_M_TRIM_THRESHOLD, trim)
        libc.mallopt(_M_MMAP_MAX, mmap_max)
        _state["policy"] = policy
    return True


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
