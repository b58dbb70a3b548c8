"""Every error that a user can meet.

    StriateError (a ValueError)      the request cannot be carried out; exit code 2
    ├── UsageError                   the command line or a function's arguments
    │   ├── ShapeError               arrays or sizes that do not fit together
    │   └── NoImage                  a picture is needed, and none was given
    ├── ConfigError                  a configuration field or file
    ├── DataError                    the data: a name, folder, archive, manifest, image, label
    │   ├── ChangedDataError         a run's data are no longer what they were
    │   ├── OtherAnnotationError     data with other annotations than the task learns from
    │   └── OtherClassesError        data of classes that the network does not have
    ├── ModelError                   the network: a name, file, head, or a shape that does not fit
    │   ├── LayerStringError         a layer string, with the character it points at
    │   ├── NoInputShape             a network without an input shape of its own, and none was given
    │   └── InputMisfit              a network that does not take inputs of the given shape
    ├── RunError                     a run directory or checkpoint
    └── TrainingError                training cannot start or continue
        ├── NonFiniteLoss            a loss, gradient or weight became NaN or Inf
        └── OtherProcessFailed       another process of the same training failed, and reports why

Each says where it happened, what was given, what was expected, and a remedy that works when pasted.
"""

from __future__ import annotations

import shlex
import sys
import traceback
from contextvars import ContextVar
from pathlib import Path
from typing import Any

REMEDIES_AS_OPTIONS: ContextVar[bool] = ContextVar("remedies_as_options", default=False)
"""Whether remedies are options of a command; else arguments of a function."""


def printable(text: str) -> str:
    """The text with control characters other than line ends and tabs as escapes: a file name may hold some, and a
    terminal would obey them."""
    return "".join(c if c.isprintable() or c in "\n\t\u00a0" else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str) -> str:
    """The text with line ends, tabs and all other control characters as escapes, so that no name of a file, class or
    module begins a line."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t").replace("\u00a0", " ")


def pasted(word: object) -> str:
    """A path or another text as one word of a shell command; a path that begins with a dash is not taken for an
    option."""
    return shlex.quote(f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word))


def reason_of(error: BaseException, letters: int = 160) -> str:
    """The message of another library's error, in one line of at most `letters` letters; its type where it has no
    message."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


class StriateError(ValueError):
    """A request that cannot be carried out, with a message that helps the reader fix it.

    `where` names the file, field, layer or argument; `got` what was given; `expected` what would be right; `remedy`
    what to type or change. All are single paragraphs of plain text. `process`: the process that reports it, where a
    training has several; None where all would.
    """

    process: int | None = None
    in_python: str = ""
    """What to type in Python, where that is another function than the command in `remedy`."""

    def __init__(self, where: str, got: str, expected: str, remedy: str) -> None:
        self.where, self.got, self.expected, self.remedy = where, got, expected, remedy
        super().__init__(where, got, expected, remedy)

    def __str__(self) -> str:
        # Each on one printable line, whatever names of files and classes it holds.
        where, got, expected, remedy = map(one_line, (self.where, self.got, self.expected, self.remedy))
        return f"{where}\n  got:      {got}\n  expected: {expected}\n  remedy:   {remedy}"

    def to_json(self) -> dict[str, Any]:
        """The error as the `--json` document of a verb."""
        return {"where": self.where, "got": self.got, "expected": self.expected, "remedy": self.remedy}


def unforeseen(error: Exception) -> StriateError:
    """An unexpected exception as a StriateError: with its line in the user's own code, or as a fault in striate."""
    frames = traceback.extract_tb(error.__traceback__)
    place = next((frame for frame in reversed(frames) if _is_own(Path(frame.filename))), None)
    got, shows = f"{type(error).__name__}: {reason_of(error, 300)}", "STRIATE_TRACEBACK=1 in the environment shows"
    if place is not None:
        remedy = f"correct line {place.lineno} of {place.filename}; {shows} how it came to be called"
        return StriateError(f"{place.filename}, line {place.lineno}", got, "code that raises no exception", remedy)
    where = f"a fault in striate or in code that it ran ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"
    remedy = f"report it with the output of: striate env; {shows} where it happened"
    return StriateError(where, got, "a result, or an error that explains itself", remedy)


def _is_own(file: Path) -> bool:
    """Whether the file is the user's own code: not part of striate, Python, or an installed library."""
    others = (Path(__file__).parent, sys.prefix, sys.base_prefix)
    return file.is_file() and not any(file.is_relative_to(other) for other in others)


class UsageError(StriateError):
    """The command line or a function's arguments."""


class ShapeError(UsageError):
    """Arrays or sizes that do not fit together."""


class NoImage(UsageError):
    """A picture is needed, and none was given."""


class ConfigError(StriateError):
    """A configuration field or file."""


class DataError(StriateError):
    """The data: a name, folder, archive, manifest, image or label."""


def missing_extra(where: str, package: str, extra: str, kind: type[StriateError] = DataError) -> StriateError:
    """The error where a package of one of striate's extras is not installed."""
    return kind(where, f"{package} is not installed", f"the extra `{extra}`", f"pip install 'striate[{extra}]'")


class ChangedDataError(DataError):
    """The data of a run are no longer what they were."""


class OtherAnnotationError(DataError):
    """Data with other annotations than the task learns from."""


class OtherClassesError(DataError):
    """Data of classes that the network does not have."""


class ModelError(StriateError):
    """The network: a name, a file, its head, or a shape that does not fit."""


class LayerStringError(ModelError):
    """A layer string that cannot be read or built; `text[position]` is the character at fault. `what` names another
    text, such as a model's name with arguments."""

    def __init__(
        self, text: str, position: int, got: str, expected: str, remedy: str, what: str = "layer string"
    ) -> None:
        self.text, self.position = text, position
        super().__init__(f"{what}, character {position + 1}", got, expected, remedy)

    def __str__(self) -> str:
        # A window of the text keeps the pointer on one terminal line, however long the string is.
        start = max(0, self.position - 40)
        window = "".join(c if c.isprintable() else " " for c in self.text[start : self.position + 36])
        before, after = "…" if start else "", "…" if self.position + 36 < len(self.text) else ""
        pointer = " " * (self.position - start + len(before)) + "^"
        where, details = super().__str__().split("\n", 1)
        return f"{where}\n  {before}{window}{after}\n  {pointer}\n{details}"


class InputMisfit(ModelError):
    """A network that does not take inputs of the given shape.

    `fitting`: a shape without batch that it takes. `instead`: another network of the zoo that takes the given shape.
    The `remedy` names options of training; commands with other options word it themselves.
    """

    def __init__(
        self,
        where: str,
        got: str,
        expected: str,
        remedy: str,
        *,
        fitting: tuple[int, ...] | None = None,
        instead: str = "",
    ) -> None:
        super().__init__(where, got, expected, remedy)
        self.fitting, self.instead = fitting, instead


class NoInputShape(ModelError):
    """A network that has no input shape of its own, and none was given."""


class RunError(StriateError):
    """A run directory or checkpoint."""


class TrainingError(StriateError):
    """Training cannot start or continue."""


class NonFiniteLoss(TrainingError):
    """A loss, gradient or weight became NaN or Inf; the last good checkpoint stays. `facts`, where they are known:
    `step`, `epoch`, `lr`, `layer`, and `samples`, the ids of those at fault or of the batch."""

    def __init__(self, where: str, got: str, expected: str, remedy: str, **facts: Any) -> None:
        super().__init__(where, got, expected, remedy)
        self.facts = facts

    def to_json(self) -> dict[str, Any]:
        """The error with its facts."""
        return super().to_json() | self.facts


class OtherProcessFailed(TrainingError):
    """Another process of the same training failed, and reports why."""

    def __init__(self) -> None:
        super().__init__(
            "this process", "another process failed", "all processes until the end", "see the message of that process"
        )
