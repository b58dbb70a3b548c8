"""What is wrong with a layer string, and how its text is mended: the remedy of an error is tried before it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from striate.errors import LayerStringError

ROUNDS, MOST_TRIES = 16, 48
LONGEST_SHOWN = 400


@dataclass(frozen=True)
class Edit:
    """Characters `start` to `end` of the text give way to `new`."""

    start: int
    end: int
    new: str


class Fault(Exception):
    """Raised while a layer string is read or fitted; `candidates` are ways to mend it, the best first."""

    def __init__(self, position: int, got: str, expected: str, *candidates: Edit | tuple[Edit, ...]) -> None:
        super().__init__(position, got, expected)
        self.position, self.got, self.expected = position, got, expected
        self.candidates = tuple((c,) if isinstance(c, Edit) else c for c in candidates)

    def preceded_by(self, edit: Edit) -> Fault:
        """The same fault with a better way to mend it in front."""
        return Fault(self.position, self.got, self.expected, edit, *self.candidates)


def apply(text: str, edits: tuple[Edit, ...]) -> str:
    """The text after edits that do not overlap."""
    for edit in sorted(edits, key=lambda e: e.start, reverse=True):
        text = text[: edit.start] + edit.new + text[edit.end :]
    return text.strip()


def to_error(text: str, fault: Fault, attempt: Callable[[str], object]) -> LayerStringError:
    """The error that a user sees. `attempt(text)` raises a Fault for a text that is still wrong."""
    mended = mend(text, fault, attempt)
    return LayerStringError(text, fault.position, fault.got, fault.expected, _remedy(text, fault, mended))


def mend(text: str, fault: Fault, attempt: Callable[[str], object]) -> str | None:
    """The first text that `attempt` accepts, following each candidate through the faults it leaves; None if none is."""
    tries = 0

    def follow(text: str, fault: Fault, rounds: int) -> str | None:
        nonlocal tries
        for candidate in fault.candidates:
            if tries >= MOST_TRIES:
                return None
            tries += 1
            changed = apply(text, candidate)
            try:
                attempt(changed)
            except Fault as following:
                moved = (following.position, following.got) != (fault.position, fault.got)
                mended = follow(changed, following, rounds - 1) if moved and rounds else None
                if mended is not None:
                    return mended
            else:
                return changed
        return None

    return follow(text, fault, ROUNDS)


def _remedy(text: str, fault: Fault, mended: str | None) -> str:
    if mended is not None and len(mended) <= LONGEST_SHOWN:
        # Single quotes inside: the whole can then be pasted between double quotes.
        return f'write "{" ".join(mended.split()).replace(chr(34), chr(39))}"'
    if fault.candidates:
        edit = fault.candidates[0][0]
        if len(edit.new) + edit.end - edit.start <= LONGEST_SHOWN:
            return _describe(text, edit)
    return f"write it as expected: {fault.expected}"


def _describe(text: str, edit: Edit) -> str:
    old, place = text[edit.start : edit.end].strip(), f"at character {edit.start + 1}"
    if not old:
        return f"insert `{edit.new.strip()}` {place}"
    return f"write `{edit.new.strip()}` for `{old}` {place}" if edit.new.strip() else f"remove `{old}` {place}"
