"""The search space: what a text means, and what is refused before anything runs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.errors import ConfigError, StriateError, UsageError
from striate.studies.sweep.space import Choices, Range, default_space, parse_space, refuse_fixed
from striate.training.config import Config
from striate.training.config_file import field_names, with_fields


def one(text: str) -> Range | Choices:
    (dimension,) = parse_space([text])
    return dimension


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("optim.lr=1e-4..1e-1", Range("optim.lr", 1e-4, 0.1, log=True, integer=False)),
        ("optim.lr=0.01..0.1", Range("optim.lr", 0.01, 0.1, log=False, integer=False)),
        ("optim.lr=0.01..0.2", Range("optim.lr", 0.01, 0.2, log=True, integer=False)),
        ("optim.lr=log:0.01..0.1", Range("optim.lr", 0.01, 0.1, log=True, integer=False)),
        ("optim.lr=linear:1e-4..0.1", Range("optim.lr", 1e-4, 0.1, log=False, integer=False)),
        ("optim.weight_decay=0..0.3", Range("optim.weight_decay", 0, 0.3, log=False, integer=False)),
        ("augment.shift=0..3", Range("augment.shift", 0, 3, log=False, integer=True)),
        ("batch=8..512", Range("batch", 8, 512, log=False, integer=True)),
        ("batch=log:8..512", Range("batch", 8, 512, log=True, integer=True)),
        ("batch=16|32|64", Choices("batch", ("16", "32", "64"), (16, 32, 64))),
        ("optim.lr=0.1|0.01", Choices("optim.lr", ("0.1", "0.01"), (0.1, 0.01))),
        ("augment.flip=true|false", Choices("augment.flip", ("true", "false"), (True, False))),
        ("optim.name=sgd|adamw", Choices("optim.name", ("sgd", "adamw"), ("sgd", "adamw"))),
        ("data.size=32|48x64", Choices("data.size", ("32", "48x64"), ((32, 32), (48, 64)))),
        ("augment.crop=null|0.5", Choices("augment.crop", ("null", "0.5"), (None, 0.5))),
        (
            "optim.betas=[0.9, 0.99]|[0.8, 0.9]",
            Choices("optim.betas", ("[0.9, 0.99]", "[0.8, 0.9]"), ((0.9, 0.99), (0.8, 0.9))),
        ),
        (
            "model.name=../nets.py:f|lenet5",
            Choices("model.name", ("../nets.py:f", "lenet5"), ("../nets.py:f", "lenet5")),
        ),
    ],
)
def test_a_text_means_what_it_says(text: str, expected: Range | Choices) -> None:
    assert one(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("optim.lr", "FIELD=LOW..HIGH"),
        ("optim.lr=", "FIELD=LOW..HIGH"),
        ("optim.rate=1..2", "no such field"),
        ("lr=1e-4..1", "optim.lr"),
        ("optim.lr=0.1..0.01", "empty range"),
        ("optim.lr=0.1..0.1", "empty range"),
        ("optim.lr=0..0.1", "above 0"),
        ("optim.lr=log:0..0.1", "a logarithmic range from 0"),
        ("optim.lr=ln:0.1..0.2", "log:, linear: or no prefix"),
        ("optim.lr=a..b", "two numbers"),
        ("optim.lr=1..1e999", "finite"),
        ("optim.lr=0.1", "the one value 0.1"),
        ("optim.lr=0.1|x", "number"),
        ("optim.momentum=0.5..1.5", "below 1"),
        ("batch=1.5..3", "whole numbers"),
        ("batch=16|16", "16 twice"),
        ("batch=16||32", "an empty choice"),
        ("augment.flip=0..1", "a choice such as true|false"),
        ("optim.name=sgd|adam", "'adam'"),
        ("data.size=32|big", "pixels"),
        ("budget.epochs=3..9", "divides the epochs"),
        ("data.val_fraction=0.1..0.3", "other samples"),
        ("execution.threads=1..4", "changes the speed"),
        ("data.store=pack|stream", "where inputs are stored"),
        ("data.packs=a|b", "where inputs are stored"),
        ("evaluation.train_samples=100|200", "measured after a training"),
        ("seed=0..9", "a lucky seed does not make a configuration better"),
    ],
)
def test_a_wrong_text_is_refused_with_a_remedy(text: str, said: str) -> None:
    with pytest.raises(StriateError) as caught:
        parse_space([text])
    assert said in str(caught.value)
    assert caught.value.remedy


@pytest.mark.slow
def test_remedies_are_spaces_that_are_accepted() -> None:
    tried = 0
    for field in field_names():
        try:
            parse_space([f"{field}=?..!"])
        except ConfigError as error:
            if error.remedy.startswith("--over '"):
                tried += 1
                parse_space([error.remedy.removeprefix("--over '").removesuffix("'")])
        except UsageError:
            pytest.fail(field)
    assert tried > 30


def test_the_same_field_twice_and_a_field_that_is_fixed_are_refused() -> None:
    with pytest.raises(UsageError, match="twice"):
        parse_space(["batch=16|32", "batch=8|4"])
    with pytest.raises(UsageError, match="both 16"):
        refuse_fixed(["batch=16|32"], {"batch": 8})
    with pytest.raises(UsageError, match="both 16") as caught:
        refuse_fixed([" batch = 16|32"], {"batch": 8})
    assert caught.value.where == "batch"
    with pytest.raises(UsageError, match=r"32\|48 and 64") as caught:
        refuse_fixed(["data.size=32|48"], {"data.size": "64"})
    assert "--size" in caught.value.remedy
    refuse_fixed(["batch=16|32"], {"optim.lr": 8, "batch": None})


@settings(max_examples=25)
@given(st.floats(1e-9, 1e9), st.floats(1.001, 1e6))
def test_a_range_survives_being_written_and_read(low: float, factor: float) -> None:
    made = one(f"optim.lr={low!r}..{low * factor!r}")
    assert one(f"optim.lr={made.text}") == made


def test_the_default_space_lies_around_the_recipe() -> None:
    decided = with_fields(Config(), {"optim.lr": 0.003, "optim.weight_decay": 0.02})
    lr, decay = default_space(decided, Config())
    assert lr == Range("optim.lr", 3e-4, 0.03, log=True, integer=False)
    assert decay == Range("optim.weight_decay", 0.002, 0.2, log=True, integer=False)
    assert default_space(decided, with_fields(Config(), {"optim.lr": 0.003})) == (decay,)
    with pytest.raises(UsageError, match="nothing to search"):
        default_space(decided, decided)


def test_what_the_recipe_decided_is_found_in_the_space() -> None:
    lr = one("optim.lr=1e-4..1e-1")
    assert lr.drawn(0.003) == 0.003
    assert lr.drawn(0.3) is None
    assert lr.drawn(None) is None
    assert one("batch=16|32").drawn(32) == "32"
    assert one("batch=16|32").drawn(64) is None
    assert one("augment.flip=true|false").drawn(False) == "false"
