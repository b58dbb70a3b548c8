"""What is printed is what was said, character for character."""

from __future__ import annotations

import pytest

from striate.cli.output import print_note


@pytest.mark.parametrize("text", ["root:x:0", "[bold]no markup[/bold]", "a:smile:b", "✓ ×"])
def test_notes_are_printed_as_they_are(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_note(text)
    assert capsys.readouterr().err == text + "\n"
