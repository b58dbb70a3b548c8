"""Options over a short training: what they say happens."""

from __future__ import annotations

import pytest
import torch
from short_runs import asked_for, events_of, parameters, trained
from torch import nn

from quick import few_quick
from striate.errors import ConfigError
from striate.training.events import EpochDone, StepDone
from striate.training.prepare import prepare


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("name", few_quick(["sgd", "adamw", "muon", "lamb", "lars"], ["sgd", "lamb"]))
def test_every_optimizer_learns_with_the_rate_that_is_its_default(name: str) -> None:
    row = trained(asked_for(epochs=8, optim__name=name, model__name="mlp(32)", optim__ema=0)).state.history[-1]
    assert row.val["accuracy"] > 0.85


def test_the_rate_of_each_step_is_that_of_the_schedule() -> None:
    asked = {"schedule__name": "step", "schedule__milestones": [0.5], "schedule__factor": 0.1, "optim__lr": 0.01}
    rates = [e.lr for e in events_of(prepare(asked_for(**asked))) if isinstance(e, StepDone)]
    half = -(-len(rates) // 2)
    assert rates == pytest.approx([0.01] * half + [0.001] * (len(rates) - half))


def test_the_batch_is_the_number_of_samples_of_a_step() -> None:
    seen = [e.samples for e in events_of(prepare(asked_for(batch=100))) if isinstance(e, StepDone)]
    assert set(seen[:-1]) == {100}
    assert sum(seen) == 1259


@pytest.mark.slow
def test_a_larger_penalty_silences_more_units() -> None:
    silent = [
        trained(asked_for(epochs=2, model__name="mlp(32)", optim__ema=0, regularize__sparsity=weight))
        .state.history[-1]
        .val["hidden_sparsity"]
        for weight in (1e-6, 0.3)
    ]
    assert silent[1] > silent[0] + 0.1


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("field", ["regularize__l1", "regularize__l2"])
def test_a_penalty_makes_kernels_smaller(field: str) -> None:
    def size(**fields: float) -> float:
        weights = parameters(trained(asked_for(model__name="mlp(32)", **fields)))
        return sum(float(w.abs().sum()) for w in weights.values() if w.ndim > 1)

    assert size(**{field: 0.01}) < 0.9 * size()


@pytest.mark.slow
def test_turns_are_told_apart_and_inner_layers_classify() -> None:
    asked = {"auxiliary__rotation": 1.0, "auxiliary__layers": ["fc1"], "auxiliary__weight": 1.0, "optim__ema": 0}
    state = trained(asked_for(epochs=4, model__name="mlp(32)", optim__lr=0.01, **asked)).state
    val = state.history[-1].val
    assert val["rotation_accuracy"] > 0.6  # chance is 0.25
    assert val["fc1_accuracy"] > 0.8  # chance is 0.1
    saved = state.to_dict()
    assert {"rotation.weight", "classifiers.0.weight"} <= set(saved["auxiliary"])
    assert not any("rotation" in name or "classifiers" in name for name in saved["model"])


@pytest.mark.slow
def test_heads_change_what_the_trunk_learns_and_their_weight_matters() -> None:
    runs = [{}, {"auxiliary__rotation": 0.5}, {"auxiliary__rotation": 2.0}, {"auxiliary__layers": ["fc1"]}]
    runs.append({"auxiliary__layers": ["fc1"], "auxiliary__weight": 0.9})
    first = [
        float(parameters(trained(asked_for(model__name="mlp(8)", **fields)))["fc1.weight"].sum()) for fields in runs
    ]
    assert len(set(first)) == len(runs)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("base", "option"),
    [
        ({}, {"optim__clip": 0.1}),
        ({}, {"augment__mixup": 0.3}),
        ({}, {"augment__cutmix": 1.0}),
        ({}, {"regularize__sparsity": 0.1}),
        ({"model__name": "flatten bn fc(8) relu fc(10)"}, {"execution__micro_batch": 5}),
        ({"optim__name": "muon"}, {"optim__betas": [0.5, 0.9]}),
        ({"optim__name": "muon"}, {"optim__momentum": 0.5}),
        ({"optim__name": "lamb"}, {"optim__betas": [0.5, 0.9]}),
        ({"optim__name": "lars"}, {"optim__nesterov": False}),
    ],
    ids=str,
)
def test_an_option_changes_the_weights(base: dict, option: dict) -> None:
    usual = {"model__name": "mlp(8)", "batch": 64} | base
    without, with_it = (parameters(trained(asked_for(**usual | fields))) for fields in ({}, option))
    assert any(not torch.equal(with_it[name], without[name]) for name in with_it)


def test_the_average_is_what_is_measured_and_the_weights_are_trained_as_without_it() -> None:
    plain, averaged = (trained(asked_for(model__name="mlp(8)", optim__ema=decay)) for decay in (0, 0.9))
    assert all(torch.equal(a, parameters(averaged)[name]) for name, a in parameters(plain).items())
    assert plain.state.history[-1].val != averaged.state.history[-1].val
    saved = averaged.checkpoint()
    assert saved.keys() - plain.checkpoint().keys() == {"ema"}
    assert averaged.trained().module is averaged.state.average.module


def test_a_run_out_of_patience_ends_early() -> None:
    asked = {"optim__lr": 0.3, "schedule__name": "constant", "keep": "best", "optim__ema": 0, "model__name": "mlp(8)"}
    prepared = prepare(asked_for(epochs=60, budget__patience=2, **asked))
    epochs = [e for e in events_of(prepared) if isinstance(e, EpochDone)]
    rows = prepared.state.history
    assert len(rows) == len(epochs) < 60
    assert [e.finished for e in epochs] == [False] * (len(epochs) - 1) + [True]
    scores = [prepared.task.score(row.val) for row in rows]
    best = max(range(len(rows)), key=lambda k: (scores[k], k))
    assert best == len(rows) - 3
    assert max(k for k, e in enumerate(epochs) if e.best) == best
    assert not list(events_of(prepared)), "a run that ended early does not go on"


@pytest.mark.slow
def test_with_the_last_kept_every_epoch_is_the_one_to_keep() -> None:
    asked = {"optim__lr": 0.3, "schedule__name": "constant", "optim__ema": 0, "model__name": "mlp(8)"}
    kept = {}
    for keep in ("best", "last"):
        events = list(events_of(prepare(asked_for(epochs=6, keep=keep, **asked))))
        kept[keep] = [e.best for e in events if isinstance(e, EpochDone)]
    assert kept["last"] == [True] * 6
    assert not all(kept["best"])


class Functional(nn.Module):
    """Activations that no hook sees."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 8), nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x.flatten(1))))


class Idle(Functional):
    """An activation module that is there and never called."""

    def __init__(self) -> None:
        super().__init__()
        self.activation = nn.ReLU()


class Shift(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :10] + self.shift


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"optim__name": "sgd", "optim__betas": [0.5, 0.9]}, "optim.betas"),
        ({"optim__name": "lamb", "optim__momentum": 0.5}, "optim.momentum"),
        ({"optim__name": "lars", "optim__betas": [0.5, 0.9]}, "optim.betas"),
        ({"schedule__name": "constant", "schedule__warmup": 0.5}, "schedule.warmup"),
        ({"auxiliary__weight": 0.5}, "auxiliary.weight"),
        ({"auxiliary__rotation": 1.0, "auxiliary__weight": 0.5}, "auxiliary.weight"),
        ({"auxiliary__layers": ["nowhere"]}, "auxiliary.layers"),
        ({"regularize__sparsity": 0.1, "model__name": "fc(10)"}, "regularize.sparsity"),
        ({"fine_tune__head_share": 0.3}, "fine_tune.head_share"),
        ({"fine_tune__layer_decay": 0.5}, "fine_tune.layer_decay"),
    ],
    ids=str,
)
def test_a_field_without_a_meaning_is_refused_with_what_to_leave_out(fields: dict, where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare(asked_for(**fields))
    assert caught.value.where == where
    assert caught.value.remedy
    assert "None" not in caught.value.expected
    prepare(asked_for())


@pytest.mark.parametrize(
    ("data", "fields", "where"),
    [
        ("iris", {"augment__cutmix": 1.0}, "augment.cutmix"),
        ("iris", {"augment__rotate": 10}, "augment.rotate"),
        ("iris", {"auxiliary__rotation": 1.0}, "auxiliary.rotation"),
    ],
)
def test_tables_take_what_they_can(data: str, fields: dict, where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare(asked_for(data, **fields))
    assert caught.value.where == where
    prepare(asked_for(data, augment__mixup=0.2, augment__noise=0.1, regularize__l1=0.01))


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("module", "fields", "said"),
    [
        (Functional(), {"regularize__sparsity": 0.1}, "functions such as torch.relu"),
        (Idle(), {"regularize__sparsity": 0.1}, "never run"),
        (Shift(), {"regularize__l1": 0.1}, "without kernels"),
        (Shift(), {"regularize__l2": 0.1}, "without kernels"),
    ],
)
def test_a_penalty_on_what_is_not_there_is_refused(module: nn.Module, fields: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        prepare(asked_for(**fields), module)
    prepare(asked_for(), module)


def test_numbers_are_blended_by_mixup() -> None:
    state = trained(asked_for("boston", epochs=2, augment__mixup=0.4)).state
    assert state.history[-1].val["rmse"] < 20


@pytest.mark.slow
def test_minutes_are_measured_with_the_options_that_cost_time() -> None:
    fields = {"execution__micro_batch": 20, "auxiliary__rotation": 0.5, "optim__ema": 0.9, "budget__minutes": 0.02}
    prepared = prepare(asked_for(epochs=None, model__name="mlp(8)", **fields))
    assert prepared.config.budget.steps >= 1
    assert prepared.state.step == prepared.state.average.count == 0
