"""What is printed is what was said, character for character."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from striate.cli.output import measure_and_write, print_note
from striate.runs.files import explained


@pytest.mark.parametrize("text", ["root:x:0", "[bold]no markup[/bold]", "a:smile:b", "✓ ×"])
def test_notes_are_printed_as_they_are(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_note(text)
    assert capsys.readouterr().err == text + "\n"


def test_what_was_measured_is_printed_though_the_run_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    def write(run: Path, found: object) -> tuple[Path, ...]:
        with explained(run / "found.json"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    assert measure_and_write(Path("run"), lambda *_, **__: {"n": 3}, write, json=True) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"n": 3}
    assert err == "not written: run/found.json: cannot be used: Read-only file system\n"
