"""What cannot be trained as decided."""

from __future__ import annotations

import pytest
from short_runs import asked_for

from striate.errors import TrainingError
from striate.training.prepare import prepare

NORMALIZED = "conv(4,3) bn relu fc(10)"


@pytest.mark.parametrize(
    ("fields", "where", "remedy"),
    [
        ({"batch": 1}, "batch", {"batch": 16}),
        ({"batch": 8, "execution__micro_batch": 1}, "execution.micro_batch", {"batch": 8, "execution__micro_batch": 2}),
    ],
)
def test_one_sample_has_no_variance_and_the_remedy_is_of_the_field_that_says_one(
    fields: dict[str, int], where: str, remedy: dict[str, int]
) -> None:
    with pytest.raises(TrainingError, match="batch normalization") as caught:
        prepare(asked_for(model__name=NORMALIZED, **fields))
    assert caught.value.where == where
    prepare(asked_for(model__name=NORMALIZED, **remedy))
    assert caught.value.remedy == " ".join(
        f"--{name.replace('__', '.')} {value}" for name, value in remedy.items() if value != fields.get(name)
    )
    prepare(asked_for(model__name="conv(4,3) relu fc(10)", **fields))
