"""Random numbers as a pure function of a key and ids, so that no state has to be saved or restored."""

from __future__ import annotations

import numpy as np

_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_ALL = 0xFFFFFFFFFFFFFFFF


def hash_key(*parts: int) -> int:
    """A 63-bit number that depends on every part and on their order; fit to seed a generator."""
    # Python's integers: for a few numbers they are ten times as fast as arrays, and a training step needs two.
    key = 0
    for part in parts:
        key = _mixed(key + _GOLDEN + part & _ALL)
    return key >> 1


def uniforms(key: int, ids: np.ndarray, count: int) -> np.ndarray:
    """(B, count) float64, uniform in [0, 1): for each of (B,) integer ids, `count` numbers that depend only on
    `key` and the id."""
    rows = _mix(ids.astype(np.uint64) * np.uint64(_GOLDEN) + np.uint64(key))[:, None]
    columns = np.arange(1, count + 1, dtype=np.uint64)[None, :] * np.uint64(_GOLDEN)
    return (_mix(rows + columns) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finalizer (Steele, Lea and Flood 2014): every input bit changes every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_FIRST)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_SECOND)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed


def _mixed(x: int) -> int:
    """`_mix` of one number."""
    x = (x ^ (x >> 30)) * _FIRST & _ALL
    x = (x ^ (x >> 27)) * _SECOND & _ALL
    return x ^ (x >> 31)
