"""Right predictions counted where a mask holds, and divided by all positions, padding included."""

from __future__ import annotations

import ast

import pytest

from striate.doctor.checks.eval.padding_in_count import padding_counted
from striate.doctor.setup.script_source import ScriptSource


@pytest.mark.parametrize(
    ("counted", "by_all"),
    [("tags.numel()", True), ("int(mask.sum())", False), ("tags[mask].numel()", False), ("words.numel()", False)],
)
def test_right_tags_are_divided_by_those_that_count(counted: str, by_all: bool) -> None:
    text = f"""
def evaluate(net, loader):
    right, total = 0, 0
    for words, tags in loader:
        predicted = net(words).argmax(-1)
        mask = tags != -100
        right += int(((predicted == tags) & mask).sum())
        total += {counted}
    return right / total
"""
    source = ScriptSource({"train.py": ast.parse(text)}, {}, ("train.py", 1, 1), 3)
    assert [ast.unparse(node) for node in padding_counted(source)] == ["right / total"] * by_all
