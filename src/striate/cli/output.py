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
    """Print a table. Numbers are never cut: in a narrow terminal lines wrap."""
    console = stdout()
    unbounded = console.options.update(max_width=10_000)
    console.width = max(console.width, console.measure(table, options=unbounded).maximum)
    console.print(table)


def print_text(text: str) -> None:
    """Print a result without markup and wrapping. Control characters, for example of a file name, are shown."""
    sys.stdout.write(printable(text) + "\n")


def print_note(text: str) -> None:
    """Print a message on stderr as one line, without markup and wrapping."""
    _print_plainly(one_line(text))


def _print_plainly(text: str) -> None:
    stderr().print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)


def print_json(value: Any, indent: int | None = 2) -> None:
    """Print one JSON document on stdout; NaN and Inf become null, and control characters `\\u…`, as do letters outside
    ASCII where the encoding of stdout may lack them."""
    from striate.runs.files import finite, visible_json

    unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    text = json.dumps(finite(value), indent=indent, ensure_ascii=not unicode, allow_nan=False)
    sys.stdout.write(visible_json(text) + "\n")


def print_result(found: Any, text: Any = None, *, json: bool, indent: int | None = 2) -> None:
    """Print a record as one JSON document, or else as `text`, by default the record's own."""
    if json:
        print_json(found.to_json() if hasattr(found, "to_json") else found, indent)
    else:
        print_text(str(found if text is None else text))


def print_address(address: str, note: str, *, json: bool) -> None:
    """Print the address of a server that has started on stdout, flushed, and a note on stderr."""
    print_result({"url": address}, address, json=json, indent=None)
    sys.stdout.flush()
    print_note(note)


def exit_code(findings: Iterable[Finding]) -> int:
    """1 if one of the findings is an error, else 0."""
    return int(any(finding.severity == "error" for finding in findings))


def measure_and_write(
    run: Path, measure: Callable[..., Any], write: Callable[[Path, Any], tuple[Path, ...]], *, json: bool
) -> int:
    """Measure a run, print the result, and write it into the run; exit code 0, also if it cannot be written."""
    with results_only(json):
        found = measure(run, announce=print_note)
    print_result(found, json=json)
    with results_only(json):
        print_written(lambda: write(run, found))
    return 0


def print_written(write: Callable[[], Iterable[object]]) -> None:
    """Write a result, and print its files, or why it could not be written: the result itself is printed already."""
    try:
        for written in write():
            print_note(f"written: {written}")
    except RunError as error:
        print_note(f"not written: {error.where}: {error.got}")


class LostOutput(Exception):
    """Standard output cannot be written; says why."""


class _GuardedStream:
    """Standard output, whose failures raise LostOutput, so that they differ from those of other files."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with _raising_lost_output():
            return self._stream.write(text)

    def flush(self) -> None:
        with _raising_lost_output():
            self._stream.flush()


@contextmanager
def _raising_lost_output() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise LostOutput(error.strerror or str(error)) from None


@contextmanager
def guarded_stdout() -> Iterator[None]:
    """Raises LostOutput if standard output is closed, or cannot be written within the context (a full disk)."""
    if cast("TextIO | None", sys.stdout) is None:  # the descriptor is closed
        raise LostOutput("it is closed")
    with redirect_stdout(cast("TextIO", _GuardedStream(sys.stdout))):
        yield
        sys.stdout.flush()


@contextmanager
def results_only(as_json: bool) -> Iterator[None]:
    """With `--json`, send what other code prints, such as a user's network, to stderr: stdout has one document."""
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        yield


def print_error(error: StriateError, as_json: bool) -> int:
    """Print the error on stderr, with `--json` also on stdout; exit code 2."""
    if as_json:
        print_json({"error": error.to_json()}, indent=None)
    stderr().print("error:", style="bold red", end=" ")
    _print_plainly(printable(str(error)))
    return 2


def print_interrupted(error: KeyboardInterrupt, as_json: bool) -> int:
    """Print what was saved; exit code 130."""
    text = str(error) or "interrupted"
    if as_json:
        print_json({"interrupted": text}, indent=None)
    print_note(text)
    return 130
