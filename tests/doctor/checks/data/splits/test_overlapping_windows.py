"""Windows of a series that overlap, and a random split of them."""

from __future__ import annotations

import ast

import pytest

from for_checks.asked import asked, digits, perceptron
from striate.doctor.checks.data.splits.copied_before_split import COPIED_BEFORE_SPLIT
from striate.doctor.setup.script_source import ScriptSource

APPENDED = """
xs, ys = [], []
for i in range({positions}):
    window = series[{cut}]
    xs.append(np.concatenate([window, [window.std()]]))
    ys.append(series[i + 40])
x, y = np.array(xs, dtype=np.float32), np.array(ys)
train, val = {split}
"""
RETURNED = """
def windows(series, width):
    xs = [series[i : i + width] for i in range(len(series) - width)]
    return np.stack(xs), series[width:]
x, y = windows(series, 30)
train, val, y_train, y_val = train_test_split(x, y)
"""
RANDOM = "train_test_split(x, y, test_size=0.2)"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (APPENDED.format(positions="20, n", cut="i - 20 : i", split=RANDOM), True),
        (APPENDED.format(positions="0, n, 10", cut="i : i + 20", split=RANDOM), True),
        (APPENDED.format(positions="0, n, 20", cut="i : i + 20", split=RANDOM), False),  # side by side
        (APPENDED.format(positions="n", cut="20 * i : 20 * (i + 1)", split=RANDOM), False),
        (APPENDED.format(positions="n", cut=":20", split=RANDOM), False),
        (APPENDED.format(positions="20, n", cut="i - 20 : i", split="train_test_split(x, y, shuffle=False)"), False),
        (APPENDED.format(positions="20, n", cut="i - 20 : i", split="x[:800], x[820:]"), False),
        (APPENDED.format(positions="20, n", cut="i - width : i", split=RANDOM), True),  # a width that is not known
        (
            APPENDED.format(positions="20, n", cut="i - 20 : i", split=RANDOM).replace(
                "np.array(xs, dtype=np.float32)", "np.array(xs)[..., None] / 100"
            ),
            True,
        ),
        (RETURNED, True),
        (RETURNED.replace("y = windows(", "y = shuffled("), False),
        (RETURNED.replace("train_test_split(x, y)", "parted(x, y)"), False),
    ],
)
def test_windows_that_overlap_are_not_split_at_random(text: str, wrong: bool) -> None:
    source = ScriptSource({"train.py": ast.parse(text)}, {"n": 1000}, ("train.py", 1, 1), None)
    found = asked(COPIED_BEFORE_SPLIT, perceptron(), digits(), source=source)
    assert [one.code for one in found] == ["data.leak"] * wrong
    assert all("windows that overlap" in one.measured and "shuffle=False" in one.remedy for one in found)
