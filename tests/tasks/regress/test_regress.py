"""Regression: standardized for the network, in the units of the data for people."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from torch.nn import functional

from striate.tasks.evaluation import Evaluation
from striate.tasks.regress.assess import overall_metrics
from striate.tasks.regress.task import Regress
from striate.wording import number

TASK = Regress(("price", "rooms"), (20.0, 6.0), (9.0, 0.7))


def answers() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(30, 2, generator=generator) * torch.tensor([9.0, 0.7]) + torch.tensor([20.0, 6.0])
    return torch.randn(30, 2, generator=generator), targets


@pytest.mark.parametrize(
    ("name", "function"),
    [("squared", functional.mse_loss), ("absolute", functional.l1_loss), ("huber", functional.huber_loss)],
)
def test_the_loss_is_that_of_standardized_targets(name: str, function) -> None:
    outputs, targets = answers()
    task = Regress(TASK.target_names, TASK.mean, TASK.std, name)
    standardized = (targets - torch.tensor(TASK.mean)) / torch.tensor(TASK.std)
    assert torch.allclose(task.loss(outputs, targets), function(outputs, standardized))


def test_metrics_are_those_of_scikit_learn_in_the_units_of_the_data() -> None:
    outputs, targets = answers()
    decoded = TASK.decode(outputs)
    metrics = TASK.measure(decoded, targets)
    assert metrics["rmse"] == pytest.approx(mean_squared_error(targets, decoded) ** 0.5, rel=1e-5)
    assert metrics["mae"] == pytest.approx(mean_absolute_error(targets, decoded), rel=1e-5)
    assert metrics["r2"] == pytest.approx(r2_score(targets, decoded), rel=1e-4)


def test_one_number_tallied_in_parts_gives_the_rmse_of_the_whole() -> None:
    outputs, targets = answers()
    task = Regress(("price",), (20.0,), (9.0,))
    outputs, targets = outputs[:, :1], targets[:, :1]
    summary = task.summarize(task.tally(outputs[:7], targets[:7]) + task.tally(outputs[7:], targets[7:]))
    assert summary["rmse"] == pytest.approx(task.measure(task.decode(outputs), targets)["rmse"], rel=1e-5)
    assert summary["loss"] == pytest.approx(float(task.loss(outputs, targets)), rel=1e-5)


def test_several_numbers_tallied_give_the_figures_of_the_whole() -> None:
    outputs, targets = answers()
    summary = TASK.summarize(TASK.tally(outputs[:7], targets[:7]) + TASK.tally(outputs[7:], targets[7:]))
    metrics = TASK.measure(TASK.decode(outputs), targets)
    assert summary["rmse"] == pytest.approx(metrics["rmse"], rel=1e-5)
    assert summary["mae"] == pytest.approx(metrics["mae"], rel=1e-5)


def test_large_numbers_are_told_whole_and_by_the_path_of_their_sample() -> None:
    task = Regress(("price",), (0.0,), (1.0,))
    assert task.line({"value": 1329552.4}) == "1,329,552"
    truth, said = np.array([[1.0], [2.0]]), np.array([[1061727.6], [2.5]])
    evaluation = Evaluation("made", "test", "regress", (), 2, {"n": 2}, said, truth, np.array([5, 7]))
    table = task.tables(evaluation, None, ("a.png", "b.png"))["scatter"]
    assert table is not None
    assert [row[0] for row in table.rows] == ["a.png", "b.png"]
    assert number(table.rows[0][2]) == "1,061,728"


def test_the_rmse_has_the_interval_of_evaluation_json() -> None:
    outputs, targets = answers()
    decoded = TASK.decode(outputs)
    [(key, ends)] = TASK.interval(decoded, targets).items()
    interval = overall_metrics(targets.double().numpy(), decoded.double().numpy())["rmse"].interval
    assert interval is not None
    assert (key, ends) == ("rmse_interval", pytest.approx([interval.low, interval.high]))
    assert TASK.interval(decoded[:19], targets[:19]) == {"rmse_interval": None}


def test_describe_names_several_numbers() -> None:
    assert TASK.describe(torch.tensor([21.5, 6.25])) == {"values": {"price": 21.5, "rooms": 6.25}}
    assert Regress(("price",), (0.0,), (1.0,)).describe(torch.tensor([21.5])) == {"value": 21.5}
