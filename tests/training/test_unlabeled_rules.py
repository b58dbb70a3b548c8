"""Networks that learn without labels, as ordinary trainings: decided, exact, resumed, taken over by a classifier."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from short_runs import asked_for, events_of, trained

from quick import few_quick
from striate.cli import main
from striate.doctor.unlabeled_curves import unlabeled_findings
from striate.errors import ConfigError
from striate.models.zoo.boltzmann import BoltzmannNetwork
from striate.training.events import EpochDone, StepDone
from striate.training.prepare import Prepared, prepare

MODELS = {
    "rbm(32)": 0.075,
    "rbm(32,k=2,persistent=true)": 0.08,
    "dbn(32,24)": 0.085,
    "crbm(8,kernel=3)": 0.08,
    "psd(48)": 0.08,
    "psd(24,patch=4)": 0.09,
    "rbm(24,visible=gaussian)": 0.09,
}
"""Network to mean squared error that it reaches on the validation split of `digits` at most."""


def fields(model: str, **more: object) -> dict[str, object]:
    return {"task__name": "reconstruct", "model__name": model, **more}


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("model", few_quick(MODELS, ["rbm(32)", "psd(48)"]))
def test_digits_are_learned_without_labels(model: str) -> None:
    prepared = prepare(asked_for(epochs=8, **fields(model)))
    assert prepared.config.optim.name == "local-rule"
    assert set(prepared.normalization.mean) == {0.0}
    rows = [event.row for event in events_of(prepared) if isinstance(event, EpochDone)]
    assert rows[-1].val["mse"] < MODELS[model]
    assert rows[-1].val["mse"] < rows[0].val["mse"] or model.startswith("dbn")  # whose layers learn one by one
    energy = next(name for name in rows[0].val if name.endswith("_energy"))
    assert {energy, "hidden_activity"} <= rows[-1].train.keys() & rows[-1].val.keys()
    assert 0 < rows[-1].val["hidden_activity"] < 1
    assert all(p.grad is None for p in prepared.state.module.parameters())


@pytest.mark.parametrize("model", few_quick(MODELS, ["rbm(32,k=2,persistent=true)"]))
def test_going_on_from_a_checkpoint_in_the_middle_ends_with_the_same_bits(model: str) -> None:
    config = asked_for(epochs=None, **fields(model, budget__steps=40))
    whole = trained(config)
    broken = prepare(config)
    for event in events_of(broken):
        if isinstance(event, StepDone) and event.step == 25:
            break
    torch.save(broken.checkpoint(), "half.pt")
    other = prepare(config)
    other.state.restore(torch.load("half.pt", weights_only=True))
    for _ in events_of(other):
        pass
    a, b = whole.state.module.state_dict(), other.state.module.state_dict()
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert [row.val for row in whole.state.history] == [row.val for row in other.state.history]


def test_parts_of_a_batch_are_measured_apart_and_learned_together() -> None:
    whole = trained(asked_for(**fields("rbm(16)")))
    parts = trained(asked_for(**fields("rbm(16)", execution__micro_batch=7)))
    for a, b in zip(whole.state.module.parameters(), parts.state.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_layers_of_a_stack_learn_one_after_the_other() -> None:
    prepared = prepare(asked_for(epochs=None, **fields("dbn(16,12)", budget__steps=20)))
    network = prepared.state.module
    assert isinstance(network, BoltzmannNetwork)
    first, second = (machine.hidden.weight for machine in network.machines)
    seen = []
    for event in events_of(prepared):
        if isinstance(event, StepDone):
            seen.append((float(first.detach().sum()), float(second.detach().sum())))
    below, above = zip(*seen, strict=True)
    assert len(set(below[9:])) == 1 < len(set(below[:10]))
    assert len(set(above[:10])) == 1 < len(set(above[9:]))


def test_a_gradient_is_possible_where_it_is_asked_for() -> None:
    prepared = trained(asked_for(**fields("dbn(16,8)", optim__name="adamw")))
    assert prepared.config.optim.name == "adamw"
    assert all(p.grad is not None for p in prepared.state.module.parameters())


def test_a_classifier_has_no_rule_without_labels() -> None:
    with pytest.raises(ConfigError, match="reconstruct") as caught:
        prepare(asked_for(model__name="rbm(8)", optim__name="local-rule"))
    assert caught.value.where == "optim.name"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["dbn(32,24)", "crbm(8,kernel=3)", "psd(48)"])
@pytest.mark.usefixtures("drawing")
def test_a_run_without_labels_begins_a_classifier(model: str, tmp_path: Path) -> None:
    words = ["train", "digits", "--model", model, "--epochs", "4"]
    assert main([*words, "--task", "reconstruct", "--out", "first"]) == 0
    report = Path("first/report.html").read_text()
    assert ("What does the machine imagine?" in report) == ("psd" not in model)
    assert "Filters of the first layer" in report or model.startswith("crbm")
    assert main([*words, "--task", "classify", "--weights", "first", "--out", "second"]) == 0
    assert main(["doctor", "first"]) in (0, 1)  # by its curves, without a gradient


def _columns(prepared: Prepared) -> dict[str, tuple[float, ...]]:
    rows = [row.flat() for row in prepared.state.history]
    return {name: tuple(float(row[name] or 0) for row in rows) for name in rows[0]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "more", "code"),
    [
        ("rbm(64)", {"optim__lr": 20.0}, "model.hidden-units-idle"),
        ("rbm(64)", {"optim__lr": 2.0}, "model.hidden-units-idle"),
        ("rbm(64)", {}, None),
    ],
)
def test_planted_mistakes_are_found(model: str, more: dict[str, object], code: str | None) -> None:
    prepared = trained(asked_for(**({"epochs": 10} | fields(model, **more))))
    found = {finding.code for finding in unlabeled_findings(_columns(prepared), 0.1)}
    assert found == set() if code is None else code in found


def test_curves_of_idle_units_and_of_a_widening_gap_are_told() -> None:
    even = {"val_mse": (0.3, 0.2, 0.1, 0.1, 0.1, 0.1)}
    idle = unlabeled_findings({**even, "val_hidden_activity": (0.2, 0.01, 0.0001)}, 0.1)
    assert [(f.code, f.severity) for f in idle] == [("model.hidden-units-idle", "warning")]
    gap = {"train_free_energy": (0.0,) * 6, "val_free_energy": (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)}
    [finding] = unlabeled_findings({**even, **gap, "val_hidden_activity": (0.2,) * 6}, None)
    assert finding.code == "fit.free-energy-gap"
    assert "30.0 nats" in finding.measured
    [grown] = unlabeled_findings({"val_mse": (0.1, 0.05, 0.2), "val_hidden_activity": (0.2,) * 3}, 0.1)
    assert grown.code == "optim.reconstruction-grows"
    assert unlabeled_findings({**even, **gap}, None) == ()
