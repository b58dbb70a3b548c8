"""Networks that learn by their local learning rule, as ordinary trainings: decided, refused, exact, resumed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from short_runs import asked_for, events_of, parameters, trained

import striate
from quick import few_quick
from striate.cli import main
from striate.errors import ConfigError
from striate.models.learning_rule import LearningRule
from striate.runs.checkpoint import load_checkpoint
from striate.training.events import EpochDone, StepDone
from striate.training.prepare import Prepared, prepare
from striate.training.request import merge_request

RULES = {
    "perceptron": 0.85,
    "adaline": 0.80,
    "madaline(units=60)": 0.75,
    "madaline(units=90,logic=majority)": 0.80,
    "neocognitron(first=8,second=12,planes=20)": 0.65,
}
"""Network to accuracy that it reaches on the validation split of `digits` at least; chance is 0.1."""
LOCAL = {"optim__name": "local-rule"}


def fields(model: str, **more: object) -> dict[str, object]:
    return {"model__name": model, **LOCAL, **more}


@pytest.mark.parametrize("model", few_quick(RULES, [*RULES][:1]))
def test_digits_are_learned(model: str) -> None:
    prepared = prepare(asked_for(epochs=4, **fields(model)))
    rows = [event.row for event in events_of(prepared) if isinstance(event, EpochDone)]
    assert rows[-1].val["accuracy"] > RULES[model]
    assert all(p.grad is None for p in prepared.state.module.parameters())
    assert rows[0].val["accuracy"] < rows[-1].val["accuracy"]
    assert all(0 < row.augment_share < 1 for row in rows), "inputs are standardized here too, which takes time"


@pytest.mark.slow
@pytest.mark.parametrize("model", few_quick(RULES, ["perceptron"]))
def test_going_on_from_a_checkpoint_in_the_middle_ends_with_the_same_bits(model: str) -> None:
    config = asked_for(epochs=None, **fields(model, optim__ema=0.9, budget__steps=90))
    whole = trained(config)
    broken, stop = prepare(config), (whole.config.budget.steps or 0) * 5 // 8
    for event in events_of(broken):
        if isinstance(event, StepDone) and event.step == stop:
            break
    saved = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in broken.checkpoint().items()}
    torch.save(saved, "half.pt")
    other = prepare(config)
    other.state.restore(torch.load("half.pt", weights_only=True))
    assert other.state.step == stop
    for _ in events_of(other):
        pass
    _same(whole, other)


def _same(one: Prepared, two: Prepared) -> None:
    a, b = one.state.module.state_dict(), two.state.module.state_dict()
    assert all(torch.equal(a[key], b[key]) for key in a)
    averages = [p.state.eval_module.state_dict() for p in (one, two)]
    assert all(torch.equal(averages[0][key], averages[1][key]) for key in averages[0])
    assert [row.val for row in one.state.history] == [row.val for row in two.state.history]


def test_parts_of_a_batch_are_learned_one_after_the_other() -> None:
    whole = trained(asked_for(**fields("perceptron")))
    parts = trained(asked_for(**fields("perceptron"), execution__micro_batch=7))
    for a, b in zip(parameters(whole).values(), parameters(parts).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["madaline(units=20)", "neocognitron(planes=2)"])
def test_networks_without_a_gradient_get_their_rule_with_the_reason(model: str) -> None:
    prepared = prepare(asked_for(epochs=None, model__name=model))
    config = prepared.config
    assert (config.optim.name, config.optim.weight_decay) == ("local-rule", 0)
    assert {"optim.name", "optim.lr", "schedule.name", "budget.epochs"} <= set(config.decided)
    assert config.schedule.name == ("constant" if "neo" in model else "one-cycle")
    assert any("no gradient" in note for note in prepared.notes)
    assert not prepared.findings


@pytest.mark.slow
@pytest.mark.each_nth(2)
@pytest.mark.parametrize("model", ["perceptron", "adaline"])
def test_networks_with_a_gradient_take_the_rule_when_asked_alone(model: str) -> None:
    assert prepare(asked_for(epochs=None, model__name=model)).config.optim.name == "adamw"
    asked = prepare(asked_for(epochs=None, **fields(model))).config
    assert (asked.optim.name, asked.budget.epochs, asked.augment.shift) == ("local-rule", 20, 0)
    # Another optimizer opens again what the rule had decided.
    back = prepare(merge_request(asked, epochs=None, fields={"optim.name": "adamw"})).config
    plain = prepare(asked_for(epochs=None, model__name=model)).config
    assert (back.optim, back.budget) == (plain.optim, plain.budget)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("asked", "where", "got"),
    [
        ({"model__name": "mlp(8)", **LOCAL}, "optim.name", "mlp(8), which has no local learning rule"),
        ({"model__name": "madaline", "optim__name": "adamw"}, "optim.name", "no useful gradient"),
        ({"optim__momentum": 0.5}, "optim.momentum", "0.5"),
        ({"optim__betas": [0.5, 0.9]}, "optim.betas", "0.5"),
        ({"optim__weight_decay": 0.1}, "optim.weight_decay", "no gradient"),
        ({"optim__clip": 1.0}, "optim.clip", "no gradient"),
        ({"augment__mixup": 0.2}, "augment.mixup", "no gradient"),
        ({"augment__cutmix": 0.2}, "augment.cutmix", "no gradient"),
        ({"task__label_smoothing": 0.1}, "task.label_smoothing", "no gradient"),
        ({"task__loss": "hinge"}, "task.loss", "no gradient"),
        ({"task__class_weights": "balanced"}, "task.class_weights", "no gradient"),
        ({"regularize__l2": 0.1}, "regularize.l2", "no gradient"),
        ({"regularize__l1": 0.1}, "regularize.l1", "no gradient"),
        ({"regularize__sparsity": 0.1}, "regularize.sparsity", "no gradient"),
        ({"auxiliary__rotation": 0.1}, "auxiliary.rotation", "no gradient"),
        ({"execution__precision": "bf16"}, "execution.precision", "no gradient"),
        ({"fine_tune__head_share": 0.5}, "fine_tune.head_share", "no gradient"),
    ],
)
def test_what_has_no_meaning_is_refused(asked: dict[str, object], where: str, got: str) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare(asked_for(**({"model__name": "perceptron", **LOCAL} | asked)))
    assert caught.value.where == where
    assert got in caught.value.got
    if where == "optim.name" and "none" in got:
        assert "perceptron, adaline, madaline, neocognitron" in caught.value.expected


def test_rules_are_for_classes() -> None:
    with pytest.raises(ConfigError) as caught:
        prepare(
            merge_request(asked_for(), data="boston", epochs=1, fields={"model.name": "madaline", "task.name": "auto"})
        )
    assert "number" in caught.value.got
    assert caught.value.remedy == "--model mlp"


@pytest.mark.slow
def test_a_run_that_begins_with_another_learns_on_by_the_rule(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["train", "digits", "--model", "perceptron", "--epochs", "2", "--out", str(first), *_OWN]) == 0
    assert main(["train", "digits", "--model", str(first), "--epochs", "1", "--out", str(second), *_OWN]) == 0
    assert "recipe: standard" in (second / "config.yaml").read_text()
    assert main(["train", "digits", "--model", str(first), "--recipe", "fine-tune", "--out", "third", *_OWN]) == 2
    assert not Path("third").exists()


class Prototypes(torch.nn.Module):
    """Answers by the nearest mean of a class; learns the means."""

    def __init__(self) -> None:
        super().__init__()
        self.means = torch.nn.Parameter(torch.zeros(10, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -torch.cdist(x.flatten(1), self.means)

    def learning_rule(self) -> LearningRule:
        return LearningRule("running means", rate=0.1, why="a tenth of the way", epochs=2, only=True)

    @torch.no_grad()
    def learn(self, inputs: torch.Tensor, targets: torch.Tensor, rate: float, progress: float) -> None:
        assert 0 <= progress < 1
        for x, k in zip(inputs.flatten(1), targets.tolist(), strict=True):
            self.means[k] += rate * (x - self.means[k])


def test_a_module_of_ones_own_learns_by_its_rule() -> None:
    prepared = prepare(asked_for(epochs=None), Prototypes())
    for _ in events_of(prepared):
        pass
    assert prepared.config.optim.name == "local-rule"
    assert len(prepared.state.history) == 2
    assert prepared.state.history[-1].val["accuracy"] > 0.8


def test_the_search_of_a_rate_is_refused() -> None:
    asked = {"task.name": "reconstruct", "model.name": "rbm(4)", "budget.epochs": 1}
    with pytest.raises(ConfigError, match="local-rule") as refused:
        striate.find_learning_rate("digits", set=asked, seconds=5)
    assert refused.value.remedy == "striate train digits --task reconstruct --model 'rbm(4)' --epochs 1 --lr 0.1"


@pytest.mark.slow
def test_minutes_become_steps_without_touching_the_network() -> None:
    config = asked_for(epochs=None, model__name="neocognitron(first=4,second=4,planes=2)")
    prepared = prepare(merge_request(config, minutes=0.05, fields={}))
    assert (prepared.config.budget.steps or 0) > 0
    assert all(float(c.inhibition.detach().sum()) == 0 for c in (prepared.state.module.s1, prepared.state.module.s3))


_OWN = ("--optim.name", "local-rule")


@pytest.mark.slow
@pytest.mark.parametrize("model", few_quick([*RULES][::4], ["perceptron"]))
def test_from_the_command_line_it_is_a_run_like_any_other(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", "--model", model, "--epochs", "4", "--out", "run", *_OWN]) == 0
    assert (Path("run") / "report.html").exists()
    metrics = json.loads((Path("run") / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] > 0.6
    again = load_checkpoint(Path("run/checkpoints/last.pt"))
    assert main(["train", "--resume", "run"]) == 0
    assert again["step"] == load_checkpoint(Path("run/checkpoints/last.pt"))["step"]
    capsys.readouterr()
    assert main(["eval", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == metrics["test"]["accuracy"]


def test_a_rate_too_large_ends_with_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "digits", "--model", "adaline", "--epochs", "3", "--lr", "5", "--schedule.name", "constant"]
    assert main([*words, *_OWN]) == 2
    assert "finite" in capsys.readouterr().err
