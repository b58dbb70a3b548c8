"""config.yaml: round trip, and an error for every wrong value."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.errors import ConfigError
from striate.training.config import Config
from striate.training.config_file import config_from_yaml, config_to_yaml, field_names, get_field, with_fields


def test_the_defaults_survive_the_round_trip(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    config = with_fields(Config(), {"data.size": [96, 128], "optim.lr": 1e-3, "schedule.milestones": [0.1, 0.2, 0.3]})
    file.write_text(config_to_yaml(config))
    assert config_from_yaml(file) == config


@settings(max_examples=25)
@given(lr=st.floats(1e-12, 1e3), seed=st.integers(0, 2**32 - 1), flip=st.none() | st.booleans())
def test_every_number_survives_to_the_last_bit(tmp_path_factory, lr, seed, flip) -> None:
    file = tmp_path_factory.mktemp("config") / "config.yaml"
    config = with_fields(Config(), {"optim.lr": lr, "seed": seed, "augment.flip": flip})
    file.write_text(config_to_yaml(config))
    assert config_from_yaml(file) == config


@pytest.mark.parametrize(("text", "value"), [("0.1", 0.1), ("1e-3", 0.001), (".5", 0.5)])
def test_text_from_the_command_line_is_read_as_a_number(text, value) -> None:
    assert with_fields(Config(), {"optim.lr": text}).optim.lr == value


@pytest.mark.parametrize(
    ("fields", "where", "said"),
    [
        ({"optim.lr": "abc"}, "optim.lr", "number"),
        ({"optim.lr": "true"}, "optim.lr", "number"),
        ({"optim.lr": True}, "optim.lr", "number"),
        ({"optim.lr": 0}, "optim.lr", "above 0"),
        ({"optim.lrr": 0.1}, "optim.lrr", "did you mean --lr 0.1?"),
        ({"lr": 0.1}, "lr", "did you mean --lr 0.1?"),
        ({"budget.epochs": 0}, "budget.epochs", "at least 1"),
        ({"budget.minutes": "nan"}, "--minutes", "a number, at most 525,600"),
        ({"budget.epochs": 2.5}, "--epochs (budget.epochs)", "a whole number"),
        ({"seed": -1}, "seed", "at least 0"),
        ({"schedule.name": "linear"}, "schedule.name", "one-cycle"),
        ({"data.size": [96]}, "data.size", ""),
        ({"data.size": "big"}, "data.size", ""),
        ({"recipe": "slow"}, "recipe", "standard"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(fields, where, said) -> None:
    with pytest.raises(ConfigError) as caught:
        with_fields(Config(), fields)
    assert where in caught.value.where
    assert said in caught.value.expected + caught.value.remedy


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    "text",
    [
        "optim: {lr: !!python/object/apply:os.system ['true']}",
        "optim: [1, 2",
        "- a\n- b",
        "optim: {lr: 0.1, nonsense: 3}",
        "nonsense: {a: 1}",
        "optim: 3",
        "data: {size: {a: 1}}",
        "[" * 5000,
        "\x00",
    ],
)
def test_a_broken_file_gives_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        config_from_yaml(file)


def read(folder: Path, text: str) -> Config:
    file = folder / "config.yaml"
    file.write_text(text)
    return config_from_yaml(file)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("optim.lr: 0.5", "optim.lr", 0.5),
        ("optim: {name: sgd}\noptim.lr: 0.5", "optim.lr", 0.5),
        ("task: {control.steps: 7}", "task.control.steps", 7),
        ("data: {size: 16x24}", "data.size", (16, 24)),
        ("data.size: 16", "data.size", (16, 16)),
        ("seed: 010", "seed", 10),
        ("cv: 2:30", "cv", "2:30"),
        ("execution: {compile: off}", "execution.compile", "off"),
        ("model: {whiten: no}", "model.whiten", False),
    ],
)
def test_a_file_is_read_as_a_person_means_it(tmp_path: Path, text: str, name: str, value: object) -> None:
    assert get_field(read(tmp_path, text), name) == value


@pytest.mark.parametrize(
    ("text", "said", "remedy"),
    [
        ("optim: {lr: 0.1}\noptim.lr: 0.5", "got:      both 0.1 and 0.5", "leave out optim.lr: 0.5"),
        ("optim.lrr: 0.1", "optim.lrr", "did you mean optim.lr: 0.1?"),
        ("optim:", "got:      a section without fields", "leave out optim, or give one of these"),
        ("optim: 3", "one of its fields: optim.name, optim.lr", "leave out optim, or give one of these"),
        ("task: {cost: {ill: 10, well: 2}}", "task.cost", "task.cost: ill=10,well=2"),
        ("task.cost: [1]", "expected: text", "task.cost: ill=10,doubtful=3"),
        ("optim: {lr: abc}", "optim.lr", "leave out optim.lr: the recipe decides it then"),
        ("optim.betas: 3", "optim.betas", "leave out optim.betas, or give its default: optim.betas: [0.9, 0.999]"),
        ("budget.minutes: 2m", "budget.minutes", "budget.minutes: 2"),
        ("execution.precision: f32", "execution.precision", "did you mean execution.precision: fp32?"),
        ("", "got:      no fields: the file is empty", "write `optim: {lr: 0.01}`"),
        ("- 1", "got:      a list", "write `optim: {lr: 0.01}`"),
        ("text", "got:      a single value", "write `optim: {lr: 0.01}`"),
    ],
)
def test_what_a_file_has_wrong_is_answered_in_the_words_of_a_file(tmp_path: Path, text, said, remedy) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert said in str(caught.value)
    assert caught.value.remedy == remedy


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        config_from_yaml(tmp_path / "none.yaml")


def test_every_field_has_a_name_that_can_be_set() -> None:
    names = field_names()
    assert {"data.source", "optim.weight_decay", "budget.steps", "seed", "batch"} <= set(names)
    assert len(names) == len(set(names))
    assert with_fields(Config(), {}) == Config()


def test_a_field_that_takes_several_kinds_says_all_of_them() -> None:
    with pytest.raises(ConfigError) as caught:
        with_fields(Config(), {"augment.flip": "sometimes"})
    assert caught.value.expected == "true or false, or 'alternate'"
    for text, value in (("true", True), ("false", False), ("alternate", "alternate")):
        assert with_fields(Config(), {"augment.flip": text}).augment.flip == value


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"evaluation.views": "miror"}, "did you mean --evaluation.views mirror?"),
        ({"execution.precision": "f32"}, "did you mean --execution.precision fp32?"),
        ({"data.store": "strem"}, "did you mean --data.store stream?"),
        ({"execution.threads": 0}, "leave out --execution.threads: the plan decides it then"),
        ({"schedule.full_size_from": 0}, "leave out --schedule.full_size_from: it is then 0.6"),
        ({"data.size": [0, 4]}, "leave out --size: it is then decided from the data"),
        ({"optim.lr": 0}, "leave out --lr: the recipe decides it then"),
        ({"budget.minutes": 0}, "--minutes 2"),
        ({"budget.epochs": "1.5"}, "--epochs 2"),
        ({"optim.lrr": "3"}, "did you mean --lr 3?"),
        ({"optim": {"lr": 0.5}}, "--lr 0.5"),
        ({"optim": "{lr: 0.5}"}, "--lr 0.5"),
        ({"optim": "3"}, "leave out optim, or give one of these"),
        ({"task.cost": "{ill: 10}"}, "--task.cost ill=10"),
    ],
)
def test_the_remedy_says_what_was_meant_or_what_decides_an_open_field(fields, remedy) -> None:
    with pytest.raises(ConfigError) as caught:
        with_fields(Config(), fields)
    assert caught.value.remedy == remedy
