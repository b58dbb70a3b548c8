"""Splits that follow from content alone.

Per class, the distinct contents are ordered by a hash of content and seed; the first of them become `test`, the
next `val`, the rest `train`. So identical bytes are never in two of the splits made here, and adding an image moves
at most one other across each of the two boundaries of its class.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from striate.errors import ConfigError


def assign_splits(
    contents: Sequence[bytes],
    classes: Sequence[int],
    given: Sequence[str | None],
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> list[str]:
    """The split of each sample: the given one where there is one, else `train`, `val` or `test` by content.

    `contents` are keys of what must stay together: digests, equal for equal bytes, or those of groups. A split that no
    sample is given to (`val`, `test`) is cut from the samples of `train` and those without a split; the fractions apply
    to the distinct keys of each class, and a class with three or more gets at least one in each split. A key that
    several classes have counts for the first of them. Raises ConfigError where the fractions leave nothing to train on.
    """
    present = {name for name in given if name is not None}
    missing = [name for name in ("test", "val") if name not in present]
    fractions = {"test": test_fraction, "val": val_fraction}
    if sum(fractions[name] for name in missing) >= 1:
        raise ConfigError(
            "data.val_fraction and data.test_fraction",
            f"{val_fraction:g} + {test_fraction:g}",
            "less than 1 together, so that something is left to train on",
            "--data.val_fraction 0.1 --data.test_fraction 0.2",
        )
    # Contents of given val and test samples: where an undecided sample equals one, it goes with it.
    fixed = {c: g for c, g in zip(contents, given, strict=True) if g == "val"}
    fixed |= {c: g for c, g in zip(contents, given, strict=True) if g == "test"}
    home: dict[bytes, int] = {}
    for content, number, name in zip(contents, classes, given, strict=True):
        if name in (None, "train") and content not in fixed:
            home[content] = min(number, home.get(content, number))
    drawn = _draw(home, missing, fractions, seed)

    def split_of(content: bytes, name: str | None) -> str:
        if name in ("val", "test"):
            return name
        if content in fixed:
            return "train" if name == "train" else str(fixed[content])
        return drawn[content]

    return [split_of(content, name) for content, name in zip(contents, given, strict=True)]


def _draw(home: dict[bytes, int], missing: list[str], fractions: dict[str, float], seed: int) -> dict[bytes, str]:
    by_class: dict[int, list[bytes]] = defaultdict(list)
    for content, number in home.items():
        by_class[number].append(content)
    key = str(seed).encode()
    drawn: dict[bytes, str] = {}
    for members in by_class.values():
        members.sort(key=lambda content: hashlib.blake2b(content, key=key, digest_size=16).digest())
        start = 0
        for place, name in enumerate(missing):
            # What comes after this split must have at least one each: the other missing splits, then train.
            room = len(members) - start - (len(missing) - place)
            count = min(max(1, int(len(members) * fractions[name] + 0.5)), room)
            if room < 1 and place == 0 and len(members) == 2:
                count = 1  # two contents: one to train on, one to test on
            stop = start + max(0, count)
            drawn.update(dict.fromkeys(members[start:stop], name))
            start = stop
        drawn.update(dict.fromkeys(members[start:], "train"))
    return drawn
