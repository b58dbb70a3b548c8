"""`data.target-in-input` of series: a moving average that is taken over later times too."""

from __future__ import annotations

import pytest

from for_checks.asked import digits, perceptron, read
from striate.doctor.checks.data.targets.centered_windows import CENTERED_WINDOWS

LISTED = "features = ['lag1', 'mean']\nx, y = df[features].values, df[['demand']].values\n"
DROPPED = "x, y = df.drop(columns=['demand']), df['demand']\n"


@pytest.mark.parametrize(
    ("average", "inputs", "ends"),
    [
        ("df['demand'].rolling(3, center=True).mean().shift(1)", LISTED, "at the time that is predicted"),
        ("df['demand'].rolling(window=7, center=True).mean()", DROPPED, "3 steps after the time"),
        ("df['demand'].shift(1).rolling(5, center=True).mean()", LISTED, "1 step after the time"),
        ("df['demand'].shift(3).rolling(5, center=True).mean()", LISTED, None),
        ("df['demand'].rolling(3, center=True).mean().shift(2)", LISTED, None),
        ("df['demand'].rolling(3).mean().shift(1)", LISTED, None),
        ("df['weather'].rolling(3, center=True).mean()", LISTED, None),
        ("df['demand'].rolling(3, center=True).mean()", LISTED.replace("'lag1'", "'demand', 'lag1'"), None),
    ],
)
def test_a_window_around_the_time_that_is_predicted(average: str, inputs: str, ends: str | None) -> None:
    text = f"df['lag1'] = df['demand'].shift(1)\ndf['mean'] = {average}\n{inputs}for x, y in loader:\n    pass\n"
    said = read(text, CENTERED_WINDOWS, perceptron(), digits())
    assert [str(ends) in one.measured for one in said] == [True] * (ends is not None)
