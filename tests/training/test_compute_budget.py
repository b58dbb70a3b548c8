"""The size of photographs and the length of a run where the user leaves both open; runs that had no time to train."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from striate.cli import main
from striate.data.media.every_medium import medium_of
from striate.data.media.image.pictures import Header
from striate.data.media.medium import Photographs
from striate.training.budget.steps import not_trained
from striate.training.config import BudgetConfig, Config, DataConfig, ExecutionConfig
from striate.training.prepare import read_data
from striate.training.recipes import compute_budget
from striate.training.recipes.compute_budget import bounded_wait, choose_size_for
from striate.training.recipes.facts import Facts

PHOTOGRAPHS = Photographs(count=2682, usual=(333, 500), sizes=306, shorter=240, aspect=1.0)


@pytest.fixture
def rate(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the multiply–accumulates a second that training steps are said to have."""

    def set_rate(value: float) -> None:
        monkeypatch.setattr(compute_budget, "training_rate", lambda _: value)

    set_rate(1.2e11)
    return set_rate


def of_budget(**fields: float) -> Config:
    return Config(budget=BudgetConfig(**fields))  # type: ignore[arg-type]


def headers(*sizes: tuple[int, int]) -> list[Header]:
    return [Header(height=h, width=w, color=True) for h, w in sizes]


@pytest.mark.parametrize(
    ("sizes", "photographs"),
    [
        ([(32, 32)] * 5, False),
        ([(224, 224)] * 5, False),
        ([(40, 60), (40, 60), (96, 96)], False),
        ([(3024, 4032)] * 5, True),
        ([(333, 500), (240, 320), (333, 500)], True),
        ([], False),
    ],
)
def test_photographs_are_of_many_sizes_or_large(sizes: list[tuple[int, int]], photographs: bool) -> None:
    assert (medium_of("image").photographs(headers(*sizes)) is not None) == photographs


def test_a_common_aspect_ratio_is_kept_and_nothing_is_enlarged() -> None:
    uniform = medium_of("image").photographs(headers(*[(3024, 4032)] * 5))
    assert uniform is not None
    assert uniform.at(128) == (112, 144)
    mixed = medium_of("image").photographs(headers((100, 150), (150, 100), (120, 120), (100, 150)))
    assert mixed is not None
    assert mixed.at(224) == (96, 96)  # of 100 pixels, in multiples of 8
    assert mixed.at(64) == (64, 64)


def test_more_minutes_make_larger_images(rate: Callable[[float], None]) -> None:
    sides = [choose_size_for(of_budget(minutes=m), None)(PHOTOGRAPHS)[0][0] for m in (1, 2, 5, 10, 60)]
    assert sides == sorted(sides)
    assert sides[0] == 96
    assert sides[2] == 128
    assert sides[-1] == 224
    rate(1e9)
    assert choose_size_for(of_budget(minutes=5), None)(PHOTOGRAPHS)[0] == (96, 96)


def test_the_choice_is_said_with_what_another_size_would_cost(rate: Callable[[float], None]) -> None:
    size, why = choose_size_for(of_budget(minutes=5), None)(PHOTOGRAPHS)
    assert size == (128, 128)
    for told in ("128 × 128", "306 sizes", "333 × 500", "fit into 5 min 0 s", "--size 160 --minutes"):
        assert told in why


def test_epochs_that_were_asked_for_leave_the_time_to_the_size(rate: Callable[[float], None]) -> None:
    few, many = (choose_size_for(of_budget(epochs=n), None)(PHOTOGRAPHS)[0] for n in (5, 500))
    assert few > many


@pytest.mark.slow
def test_a_costly_network_gets_smaller_images(rate: Callable[[float], None]) -> None:
    costly = replace(of_budget(minutes=20), model=replace(Config().model, name="resnet50"))
    assert choose_size_for(costly, None)(PHOTOGRAPHS)[0] < choose_size_for(of_budget(minutes=20), None)(PHOTOGRAPHS)[0]


def test_a_network_of_a_fixed_size_gets_the_most_common_one(rate: Callable[[float], None]) -> None:
    fixed = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 331 * 498, 2))
    size, why = choose_size_for(of_budget(minutes=5), fixed)(PHOTOGRAPHS)
    assert size == (333, 500)
    assert "--size" in why


def test_decisions_that_must_be_alike_rest_on_no_measurement() -> None:
    config = replace(Config(), execution=ExecutionConfig(deterministic=True, threads=2, device="cpu"))
    assert compute_budget.training_rate(config) == 2 * compute_budget.NOMINAL_RATE


def facts(macs: int) -> Facts:
    return Facts("image", 10_000, 1_000, 1.0, "convolutional", macs, has_weights=False)


def test_who_names_no_budget_waits_ten_minutes_at_most(rate: Callable[[float], None]) -> None:
    decided = of_budget(epochs=20)
    config, notes = bounded_wait(decided, Config(), facts(4_000_000_000))
    assert (config.budget.minutes, config.budget.epochs) == (10.0, None)
    assert "--epochs 20" in notes[0]
    assert "--minutes 334" in notes[0]
    assert bounded_wait(decided, Config(), facts(1_000_000)) == (decided, [])
    assert bounded_wait(decided, of_budget(epochs=20), facts(4_000_000_000)) == (decided, [])


def test_no_training_is_told_from_few_steps_that_were_asked_for() -> None:
    said = not_trained(1, 0.03, of_budget(minutes=2.0))
    assert said is not None
    assert said.startswith("NOT TRAINED: 1 step, 0.03 of an epoch")
    assert not_trained(1, 0.03, of_budget(steps=1)) is None
    assert not_trained(3, 1.5, of_budget(minutes=2.0)) is None
    assert not_trained(200, 0.1, of_budget(minutes=2.0)) is None


@pytest.fixture
def large_photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for k, name in enumerate(("dark", "light")):
        folder = tmp_path / "large" / name
        folder.mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(120 * k, 120 * k + 100, (300, 400 + 20 * i, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.jpg")
    return tmp_path / "large"


def test_photographs_are_read_at_the_chosen_size_and_one_that_is_given_wins(
    large_photos: Path, rate: Callable[[float], None]
) -> None:
    rate(1e8)
    config, data = read_data(Config(data=DataConfig(source=str(large_photos))))
    assert data.input_shape == (3, 96, 96)
    assert config.data.size == (96, 96)
    assert any(note.startswith("Size: 96 × 96") for note in data.notes)
    asked = DataConfig(source=str(large_photos), size=(32, 48))
    assert read_data(Config(data=asked))[1].input_shape == (3, 32, 48)


@pytest.mark.slow
def test_a_run_without_time_exits_with_1_and_says_so_first(large_photos: Path, capsys) -> None:
    options = ["--model", "conv(4,3,2) relu gap fc(2)", "--batch", "4", "--size", "64", "--execution.plan", "plain"]
    assert main(["train", str(large_photos), "--minutes", "0.001", "--out", "run", *options]) == 1
    out = capsys.readouterr().out
    assert out.startswith("NOT TRAINED: 1 step, ")
    assert "NOT TRAINED" in Path("run/report.html").read_text()
