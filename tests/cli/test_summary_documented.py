"""What docs/summary.md shows is what its commands print."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from striate.account import remarks
from striate.cli import main

TEXT = (Path(__file__).parents[2] / "docs" / "summary.md").read_text(encoding="utf-8")
BLOCKS = [block for block in re.findall(r"(?:^ {4,}.*\n|^\n)+", TEXT, re.MULTILINE) if block.strip().startswith("$ ")]
MARKED = [pytest.param(block, marks=pytest.mark.slow) if "--effective" in block else block for block in BLOCKS]


def command(block: str) -> str:
    return block.strip().splitlines()[0].removeprefix("$ striate ")


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("block", MARKED, ids=command)
def test_the_blocks_are_real_outputs(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(command(block))) == 0
    printed = [line.strip() for line in capsys.readouterr().out.splitlines()]
    shown = [line.strip() for line in block.strip().splitlines()[1:] if line.strip() not in ("", "…")]
    assert shown
    assert [line for line in shown if line not in printed] == []


def test_blocks_were_found() -> None:
    assert len(BLOCKS) == 6


def test_every_code_of_a_remark_is_explained() -> None:
    source = Path(remarks.__file__).parent.glob("*.py")
    text = "".join(file.read_text(encoding="utf-8") for file in source)
    codes = set(re.findall(r'"(account\.[a-z-]+)"', text)) | {"account.most-parameters", "account.most-computation"}
    assert len(codes) == 17
    assert codes <= set(re.findall(r"`(account\.[a-z-]+)`", TEXT))
