"""Errors in a layer string and the search for a fix: each remedy is tried before it is printed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from striate.errors import LayerStringError
from striate.records import Remedy

ROUNDS, MOST_TRIES = 16, 48
LONGEST_SHOWN = 400


@dataclass(frozen=True)
class Edit:
    """A replacement of the characters `start` to `end` of the text by `new`."""

    start: int
    end: int
    new: str


class Fault(Exception):
    """Raised while a layer string is read or fitted; `candidates` are fixes, the best first, and `otherwise` is the
    remedy if none of them helps."""

    def __init__(
        self, position: int, got: str, expected: str, *candidates: Edit | tuple[Edit, ...], otherwise: str = ""
    ) -> None:
        super().__init__(position, got, expected)
        self.position, self.got, self.expected, self.otherwise = position, got, expected, otherwise
        self.candidates = tuple((c,) if isinstance(c, Edit) else c for c in candidates)

    def preceded_by(self, edit: Edit) -> Fault:
        """The same fault with a better fix in front."""
        return Fault(self.position, self.got, self.expected, edit, *self.candidates, otherwise=self.otherwise)


def apply(text: str, edits: tuple[Edit, ...]) -> str:
    """The text after edits that do not overlap."""
    for edit in sorted(edits, key=lambda e: e.start, reverse=True):
        text = text[: edit.start] + edit.new + text[edit.end :]
    return text.strip()


def to_error(
    text: str,
    fault: Fault,
    attempt: Callable[[str], object],
    most_drops: int = ROUNDS,
    what: str = "layer string",
) -> LayerStringError:
    """The error that a user sees. `attempt(text)` raises a Fault for a text that is still wrong; `what` names the text.

    A remedy drops at most `most_drops` words. If no fix is found, the remedy says where to change the text.
    """
    remedy = _remedy(text, fault, attempt, most_drops)
    return LayerStringError(text, fault.position, fault.got, fault.expected, remedy, what)


def fix(text: str, fault: Fault, attempt: Callable[[str], object], most_drops: int = ROUNDS) -> str | None:
    """The first text that `attempt` accepts, found by applying candidates and those of the faults that remain; None if
    there is none.

    Fixes that keep all words come first: a fix that drops a word is tried only if its fault has no other candidate, or
    if no other fix leads to an accepted text.
    """
    for keeping in (True, False):
        search = _Search(attempt, keeping)
        fixed = search.follow(text, fault, ROUNDS, most_drops)
        if fixed is not None or not search.skipped:
            return fixed
    return None


@dataclass
class _Search:
    attempt: Callable[[str], object]
    keeping: bool
    tries: int = 0
    skipped: bool = False

    def follow(self, text: str, fault: Fault, rounds: int, drops: int) -> str | None:
        left: list[tuple[str, Fault, int, int]] = []
        for number, candidate in enumerate(fault.candidates):
            dropping = _drops_a_word(text, candidate)
            if dropping and (drops < 1 or (self.keeping and number)):
                self.skipped = True
                continue
            if self.tries >= MOST_TRIES:
                return None
            self.tries += 1
            changed = apply(text, candidate)
            try:
                self.attempt(changed)
            except Fault as following:
                if rounds and changed != text and (following.position, following.got) != (fault.position, fault.got):
                    left.append((changed, following, rounds - 1, drops - dropping))
            else:
                return changed
        # Only now, as a candidate that fixes everything at once is nearer to what the user meant.
        return next((fixed for one in left if (fixed := self.follow(*one)) is not None), None)


def _drops_a_word(text: str, edits: tuple[Edit, ...]) -> bool:
    return any(
        any(c.isalpha() for c in text[edit.start : edit.end]) and not any(c.isalpha() for c in edit.new)
        for edit in edits
    )


def _remedy(text: str, fault: Fault, attempt: Callable[[str], object], most_drops: int) -> str:
    fixed = fix(text, fault, attempt, most_drops)
    if fixed is not None and len(fixed) <= LONGEST_SHOWN:
        # Single quotes inside: the whole can then be pasted between double quotes.
        written = " ".join(fixed.split()).replace('"', "'")
        return Remedy(f'write "{written}"', settings={"model.name": written})
    for candidate in fault.candidates:
        # The text is too long to show: what is printed instead has to fix it alone.
        if fixed is not None and apply(text, candidate) == fixed:
            told = " and ".join(_describe(text, edit) for edit in candidate)
            if len(told) <= LONGEST_SHOWN:
                return told
    return fault.otherwise or f"change the text at character {fault.position + 1}; expected: {fault.expected}"


def _describe(text: str, edit: Edit) -> str:
    old, place = text[edit.start : edit.end].strip(), f"at character {edit.start + 1}"
    if not old:
        return f"insert `{edit.new.strip()}` {place}"
    return f"write `{edit.new.strip()}` for `{old}` {place}" if edit.new.strip() else f"remove `{old}` {place}"
