"""Printing: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any, TextIO, cast

from rich.console import Console
from rich.table import Table

from striate.errors import RunError, StriateError, one_line, printable
from striate.records import Finding


def stderr() -> Console:
    """The console for notes, progress and errors."""
    return Console(stderr=True)


def stdout() -> Console:
    """The console for tables."""
    return Console()


def print_table(table: Table) -> None:
    """A table whose numbers are never cut: in a narrower terminal its lines wrap."""
    console = stdout()
    unbounded = console.options.update(max_width=10_000)
    console.width = max(console.width, console.measure(table, options=unbounded).maximum)
    console.print(table)


def print_text(text: str) -> None:
    """A result, as it is: no markup, no wrapping. Control characters (a file name may hold some) are shown."""
    sys.stdout.write(printable(text) + "\n")


def print_note(text: str) -> None:
    """A line of progress on stderr: no markup, no wrapping, and one line whatever names it holds."""
    _print_plainly(one_line(text))


def _print_plainly(text: str) -> None:
    stderr().print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)


def print_json(value: Any, indent: int | None = 2) -> None:
    """One JSON document on stdout; what is not finite is null, and what no terminal should be given is `\\u…`."""
    from striate.runs.files import finite, visible_json

    text = json.dumps(finite(value), indent=indent, ensure_ascii=False, allow_nan=False)
    sys.stdout.write(visible_json(text) + "\n")


def print_result(found: Any, text: Any = None, *, json: bool, indent: int | None = 2) -> None:
    """With `json` one document on stdout: of a record its `to_json()`; else `text`, or the record's own."""
    if json:
        print_json(found.to_json() if hasattr(found, "to_json") else found, indent)
    else:
        print_text(str(found if text is None else text))


def print_address(address: str, note: str, *, json: bool) -> None:
    """Where a program that was started answers, flushed, on stdout; a note on stderr."""
    print_result({"url": address}, address, json=json, indent=None)
    sys.stdout.flush()
    print_note(note)


def exit_code(findings: Iterable[Finding]) -> int:
    """1 where one of the findings is an error, else 0."""
    return int(any(finding.severity == "error" for finding in findings))


def print_kept_measure(
    run: Path, measure: Callable[..., Any], write: Callable[[Path, Any], tuple[Path, ...]], *, json: bool
) -> int:
    """Measure a run, print what was found, write it into the run; exit code 0, also where that cannot be written."""
    with results_only(json):
        found = measure(run, announce=print_note)
    print_result(found, json=json)
    with results_only(json):
        print_written(lambda: write(run, found))
    return 0


def print_written(write: Callable[[], Iterable[object]]) -> None:
    """Write what was measured, say where, and also where a run cannot be written to: the result has been printed."""
    try:
        for written in write():
            print_note(f"written: {written}")
    except RunError as error:
        print_note(f"not written: {error.where}: {error.got}")


class LostOutput(Exception):
    """Standard output cannot be written; says why."""


class _Watched:
    """A stream whose own failures are told apart from those of other files."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with _told():
            return self._stream.write(text)

    def flush(self) -> None:
        with _told():
            self._stream.flush()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise LostOutput(error.strerror or str(error)) from None


@contextmanager
def watched_stdout() -> Iterator[None]:
    """Raises LostOutput where standard output is closed, and within, where it cannot be written (a full disk)."""
    if cast("TextIO | None", sys.stdout) is None:  # as Python leaves it where the descriptor is closed
        raise LostOutput("it is closed")
    with redirect_stdout(cast("TextIO", _Watched(sys.stdout))):
        yield
        sys.stdout.flush()


@contextmanager
def results_only(as_json: bool) -> Iterator[None]:
    """With `--json`, what other code prints (a user's network, say) goes to stderr: stdout holds one document."""
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        yield


def print_error(error: StriateError, as_json: bool) -> int:
    """The error on stderr, and with `--json` on stdout too; exit code 2."""
    if as_json:
        print_json({"error": error.to_json()}, indent=None)
    stderr().print("error:", style="bold red", end=" ")
    _print_plainly(printable(str(error)))
    return 2


def print_interrupted(error: KeyboardInterrupt, as_json: bool) -> int:
    """What was saved, if anything; exit code 130."""
    text = str(error) or "interrupted"
    if as_json:
        print_json({"interrupted": text}, indent=None)
    print_note(text)
    return 130
