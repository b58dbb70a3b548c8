"""What is said twice, by a named argument and a field, is refused wherever it is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

import striate
from striate.errors import UsageError
from striate.training.request import requested_fields


def test_arguments_and_fields_make_one_request() -> None:
    assert requested_fields({"batch": 32, "optim.lr": None}, {"optim.clip": 1}) == {"batch": 32, "optim.clip": 1}
    assert requested_fields({"batch": 32}, {"batch": "32"}) == {"batch": "32"}
    with pytest.raises(UsageError, match="both 32 and 64"):
        requested_fields({"batch": 32}, {"batch": 64})


@pytest.mark.parametrize(
    ("call", "options"),
    [
        (striate.train, {"model": "mlp(4)"}),
        (striate.sweep, {"over": ["optim.lr=1e-3..0.1"]}),
        (striate.find_learning_rate, {}),
    ],
)
def test_python_refuses_an_argument_that_a_field_contradicts(call, options) -> None:
    with pytest.raises(UsageError, match="both 32 and 64") as caught:
        call("iris", batch=32, set={"batch": 64}, **options)
    assert caught.value.remedy == 'leave out set["batch"]'
    assert not list(Path().iterdir())
