"""Every block of docs/extending.md runs, and is short."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from striate.cli.main import main
from striate.tasks.registry import ENTRY_POINTS

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
SECTIONS = {part.partition("\n")[0]: re.findall(r"```(\w+)\n(.*?)```", part, re.S) for part in PAGE.split("\n## ")[1:]}


def test_each_is_under_thirty_lines() -> None:
    assert list(SECTIONS) == [
        *("Task", "Loss", "Optimizer", "Schedule", "Events"),
        *("Data", "Transform", "Network", "A package"),
    ]
    assert all(text.count("\n") < 30 for blocks in SECTIONS.values() for _, text in blocks)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("section", SECTIONS)
def test_the_blocks_run(section: str) -> None:
    for language, text in SECTIONS[section]:
        if language == "python" and (named := re.match(r"# (\w+\.py)\n", text)):
            Path(named[1]).write_text(text)
        elif language == "python":
            exec(compile(text, section, "exec"), {"__name__": "page"})
        elif language == "toml":
            assert list(tomllib.loads(text)["project"]["entry-points"]) == [ENTRY_POINTS]
        else:
            for line in text.splitlines():
                verb = shlex.split(line)[1:]
                assert main([*verb, *(["--plan", "plain"] if verb[0] == "train" else [])]) == 0
