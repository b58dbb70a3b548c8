"""Finding a learning rate: what it answers where the answer is known, and that it changes nothing."""

from __future__ import annotations

import copy
import json
import math
import random
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import striate
from striate.cli import main
from striate.data.annotations.captions import caption_rows
from striate.errors import ModelError, StriateError, UsageError
from striate.tasks.caption.task import Caption
from striate.tasks.classify.task import Classify
from striate.tasks.regress.task import Regress
from striate.tasks.segment.task import Segment
from striate.training.config import Config
from striate.training.learning_rate import find as lr_find
from striate.training.learning_rate import trials
from striate.training.learning_rate.find import TrialPlan, search_learning_rate
from striate.training.learning_rate.trials import (
    LOWEST,
    constant_prediction_loss,
    halve_until_stable,
    make_fold,
    range_test,
    run_trial,
)
from striate.training.prepare import Prepared, prepare
from striate.training.request import merge_request, read_config
from striate.wording import number

PLAN = TrialPlan(steps=30, seeds=2)


@pytest.fixture(autouse=True)
def short_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps are enough for two classes of numbers, and modules begin the same in whatever order tests run."""
    torch.manual_seed(0)
    monkeypatch.setattr(lr_find, "_FEWEST_STEPS", 20)


@pytest.fixture
def blobs(tmp_path: Path) -> str:
    """Two classes of 8 numbers, told apart by their sum, in 300 rows; with `noise.npz`, whose labels mean nothing."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 8)).astype(np.float32)
    np.savez(tmp_path / "blobs.npz", x=x, y=(x.sum(1) > 0).astype(np.int64))
    np.savez(tmp_path / "noise.npz", x=x, y=rng.integers(0, 2, 300))
    return str(tmp_path / "blobs.npz")


def ready(data: str, model: str | nn.Module = "mlp(16)", **fields: object) -> Prepared:
    dotted = {name.replace("__", "."): value for name, value in fields.items()}
    named = {"model.name": model} if isinstance(model, str) else {}
    config = merge_request(read_config(None), data=data, fields={"recipe": "quick"} | named | dotted)
    return prepare(config, None if isinstance(model, str) else model)


class Mixed(nn.Module):
    """Buffers, dropout, a frozen parameter, a part in eval mode; and it draws from NumPy and Python."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 2)
        self.dropout = nn.Dropout(0.3)
        self.first.bias.requires_grad_(False)
        self.norm.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        np.random.rand()
        random.random()
        return self.last(self.dropout(torch.relu(self.norm(self.first(x)))))


def bits(module: nn.Module) -> dict[str, object]:
    """All that could have changed, as values that compare."""
    tensors = {name: tensor.clone().numpy().tobytes() for name, tensor in module.state_dict().items()}
    flags = {name: (p.requires_grad, p.grad is None) for name, p in module.named_parameters()}
    modes = {name: part.training for name, part in module.named_modules()}
    hooks = {name: (len(part._forward_hooks), len(part._forward_pre_hooks)) for name, part in module.named_modules()}
    return {"tensors": tensors, "flags": flags, "modes": modes, "hooks": hooks}


def random_states() -> tuple[object, ...]:
    numbers = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), numbers[1].tobytes(), numbers[2], random.getstate()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("fails", [False, True], ids=["as it ends", "also when it raises"])
def test_nothing_of_the_network_or_the_random_states_changes(monkeypatch, blobs: str, fails: bool) -> None:
    prepared = ready(blobs, Mixed())
    prepared.state.module.norm.eval()
    network, optimizer = bits(prepared.state.module), copy.deepcopy(prepared.state.optimizer.state_dict())
    threads, states = torch.get_num_threads(), random_states()
    if fails:

        def fail(*given: object) -> None:
            run_trial(*given)
            raise KeyboardInterrupt

        monkeypatch.setattr(lr_find, "run_trial", fail)
        with pytest.raises(KeyboardInterrupt):
            search_learning_rate(prepared, plan=PLAN)
    else:
        search_learning_rate(prepared, plan=PLAN)
    assert bits(prepared.state.module) == network
    assert str(prepared.state.optimizer.state_dict()) == str(optimizer)
    assert (prepared.state.step, prepared.state.history) == (0, [])
    assert random_states() == states
    assert torch.get_num_threads() == threads


@pytest.mark.slow
def test_a_module_of_ones_own_stays_as_it_is_and_nothing_is_written(blobs: str, tmp_path: Path) -> None:
    module, files = Mixed(), sorted(tmp_path.iterdir())
    before, states = bits(module), random_states()
    search = striate.find_learning_rate(blobs, module, batch=32, set={"budget.epochs": 4}, seconds=1)
    assert bits(module) == before
    assert random_states() == states
    assert sorted(tmp_path.iterdir()) == files
    assert search.command == f"striate.train({blobs!r}, module, lr={search.suggestion:g}, " + (
        "set={'batch': 32, 'budget.epochs': 4})"
    )


def test_a_network_that_cannot_be_copied_is_refused(blobs: str) -> None:
    module = Mixed()
    module.kept = module.first(torch.ones(1, 8))
    with pytest.raises(ModelError, match="cannot be copied"):
        striate.find_learning_rate(blobs, module)


@pytest.mark.slow
def test_the_test_split_is_never_looked_at_and_the_same_plan_gives_the_same_answer(blobs: str) -> None:
    prepared = ready(blobs)
    first = search_learning_rate(prepared, plan=PLAN)
    blind = replace(prepared, splits={k: s for k, s in prepared.splits.items() if k != "test"})
    again = search_learning_rate(blind, plan=PLAN)
    assert replace(again, seconds=0) == replace(first, seconds=0)
    assert first.suggestion is not None
    assert first.low <= first.suggestion <= first.high
    shorter = (PLAN.steps / first.run_steps) ** lr_find.HORIZON
    good = [rate.lr for rate in first.rates if rate.good]
    assert first.low == pytest.approx(good[0] * shorter, rel=0.05)
    assert first.high == pytest.approx(good[-1] * shorter, rel=0.05)
    assert len(first.rates) == lr_find._MOST_RATES or not (first.rates[0].good or first.rates[-1].good)
    assert f"{number(first.run_steps / PLAN.steps, 2)} times as long" in first.why


def test_a_much_longer_training_is_told_without_an_exponent() -> None:
    assert "the training is 160 times as long, so the rate is 5.1 times lower" in lr_find._say_length(True, 10, 1603)


class Scaled(nn.Module):
    """Inputs ten times too large."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.last = nn.Linear(8, 16), nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.hidden(10 * x)))


@pytest.mark.slow
def test_inputs_of_an_absurd_scale_need_a_smaller_rate_than_the_recipe_has(blobs: str) -> None:
    search = search_learning_rate(ready(blobs, Scaled(), optim__name="sgd"), plan=PLAN)
    assert search.configured == 0.1
    assert search.suggestion is not None
    assert search.suggestion < 0.01
    assert search.configured_is_good is False
    assert "recipe would use 0.1 (sgd), outside that range" in str(search)


class Silent(nn.Module):
    """No gradient reaches its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).detach() + 0 * self.layer.weight.sum()


class Exploding(nn.Module):
    """Infinite after the first step, however small."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 2)
        self.register_buffer("first", self.layer.weight.detach().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) * (1.0 if torch.equal(self.first, self.layer.weight) else math.inf)


@pytest.mark.slow
def test_where_no_rate_lowers_the_loss_there_is_no_suggestion(blobs: str) -> None:
    search = search_learning_rate(ready(blobs, Silent(), optim__weight_decay=0), plan=PLAN)
    assert (search.suggestion, search.low, search.high, search.configured_is_good) == (None, None, None, None)
    assert "no rate ends below" in search.why
    assert str(search).splitlines()[-2].startswith("not informative: no rate ends below")


@pytest.mark.slow
def test_labels_that_mean_nothing_give_no_suggestion(blobs: str) -> None:
    search = search_learning_rate(ready(blobs.replace("blobs", "noise")), plan=PLAN)
    assert search.suggestion is None
    assert search.constant == pytest.approx(math.log(2), abs=0.02)


def test_where_every_rate_diverges_there_is_no_suggestion(blobs: str) -> None:
    search = search_learning_rate(ready(blobs, Exploding()), plan=PLAN)
    assert search.suggestion is None
    assert "diverges" in search.why
    assert all(h.diverged for h in search.halvings)
    assert not search.trials


def test_where_steps_are_slow_it_says_how_long_the_fewest_trials_take(monkeypatch, blobs: str) -> None:
    monkeypatch.setattr(lr_find, "_time_step", lambda *_: 1.0)
    said: list[str] = []
    search = search_learning_rate(ready(blobs), seconds=5, announce=said.append)
    assert (search.range_test, search.halvings, search.steps) == ((), (), lr_find._LEAST_STEPS)
    assert said[0] == "no time for range test and halving, since a step takes 1 s"
    assert said[1].startswith("the smallest search takes about 1")
    assert search.rates


def test_what_there_is_no_time_for_is_left_out_and_said(blobs: str) -> None:
    search = lr_find._Search(ready(blobs), lambda _: None, deadline=0.0)
    search.run(PLAN, 0.1)
    found = search.result(PLAN, (), (), "recipe", 1.0)
    assert {rate.trials for rate in found.rates} == {1}
    assert found.suggestion is None
    assert "one trial of each rate does not separate a better rate from chance; no time for" in found.why
    assert ": --seconds 10" in found.why


def straight_line(tmp_path: Path) -> Prepared:
    """One input, one target that equals it: the mean squared error has curvature 2 in the slope and in the offset."""
    x = np.random.default_rng(0).normal(size=(400, 1)).astype(np.float32)
    np.savez(tmp_path / "line.npz", x=x, y=3 * x[:, 0])
    fields = {"optim__name": "sgd", "optim__momentum": 0, "optim__weight_decay": 0, "batch": 320}
    return ready(str(tmp_path / "line.npz"), nn.Linear(1, 1), optim__nesterov=False, **fields)


def test_halving_finds_where_gradient_descent_on_a_parabola_becomes_stable(tmp_path: Path) -> None:
    prepared = straight_line(tmp_path)
    halvings = halve_until_stable(prepared, make_fold(prepared, 0), 64.0)
    assert [h.lr for h in halvings] == [64.0 / 2**k for k in range(len(halvings))]
    assert [h.diverged for h in halvings] == [True] * (len(halvings) - 1) + [False]
    # Stable below 2 / curvature = 1, give or take what a batch's own curvature differs.
    assert 0.4 < halvings[-1].lr <= 1.1


def test_the_range_test_raises_the_rate_until_the_loss_explodes(tmp_path: Path) -> None:
    prepared = straight_line(tmp_path)
    points = range_test(prepared, make_fold(prepared, 0))
    lrs = [p.lr for p in points]
    assert lrs[0] == LOWEST
    assert np.allclose(np.diff(np.log(lrs)), math.log(lrs[1] / lrs[0]))
    assert len(points) < 100
    assert 0.5 < lrs[-1] < 50
    assert min(p.smoothed for p in points) < 0.5 * points[0].loss


def test_a_trial_follows_the_schedule_and_the_seed_that_it_is_given(blobs: str) -> None:
    prepared = ready(blobs)
    fold = make_fold(prepared, 0)
    usual = run_trial(prepared, fold, 0.01, 40, 0)
    constant = replace(prepared.config, schedule=replace(prepared.config.schedule, name="constant"))
    assert run_trial(prepared, fold, 0.01, 40, 0) == usual
    assert run_trial(replace(prepared, config=constant), fold, 0.01, 40, 0).held_out != usual.held_out
    assert run_trial(prepared, fold, 0.01, 40, 1).held_out != usual.held_out
    assert run_trial(prepared, fold, 1e6, 40, 0).diverged


def test_few_validation_samples_are_joined_by_a_fifth_of_the_training_samples_that_changes(blobs: str) -> None:
    prepared = ready(blobs)
    train, val = prepared.splits["train"], prepared.splits["val"]
    folds = [make_fold(prepared, k).splits for k in range(5)]
    held = [set(f["val"].ids.tolist()) - set(val.ids.tolist()) for f in folds]
    assert set().union(*held) == set(train.ids.tolist())
    assert sum(map(len, held)) == len(train)
    for fold, out in zip(folds, held, strict=True):
        assert set(fold["train"].ids.tolist()) == set(train.ids.tolist()) - out


def test_a_moving_average_shrinks_with_the_training(blobs: str) -> None:
    def held_out(ema: float, epochs: int) -> float | None:
        prepared = ready(blobs, optim__ema=ema, budget__epochs=epochs, execution__plan="plain")
        return run_trial(prepared, make_fold(prepared, 0), 0.01, 40, 0).held_out

    assert held_out(0.99, epochs=2000) == held_out(0, epochs=2000)
    assert held_out(0.99, epochs=3) != held_out(0, epochs=3)


def test_more_time_means_longer_trials_up_to_the_whole_training(blobs: str) -> None:
    prepared = ready(blobs, budget__epochs=1000)
    fold = make_fold(prepared, 0)
    plans = [lr_find._make_plan(prepared, fold, 0.1, time, time + 45)[0] for time in (10.0, 1000.0, 1e9)]
    assert plans[0].steps == lr_find._FEWEST_STEPS
    assert plans[0].steps < plans[1].steps < plans[2].steps == prepared.config.budget.steps
    assert plans[0].seeds == 2 < plans[2].seeds


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf])
def test_a_time_that_is_none_is_refused(blobs: str, seconds: float) -> None:
    with pytest.raises(UsageError, match="seconds"):
        striate.find_learning_rate(blobs, seconds=seconds)


def run(capsys, *words: str) -> tuple[int, str, str]:
    code = main(["lr-find", *words])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.slow
def test_the_last_line_trains_when_pasted(capsys, blobs: str) -> None:
    words = (blobs, "--model", "mlp(16)", "--batch", "32", "--epochs", "5", "--optim.betas", "[0.8, 0.99]")
    code, out, err = run(capsys, *words, "--seconds", "1", "--out", "found.png")
    assert code == 0
    assert Path("found.png").read_bytes().startswith(b"\x89PNG")
    assert "range test" in err
    command = shlex.split(out.splitlines()[-1])
    assert command[:2] == ["striate", "train"]
    assert main([*command[1:], "--out", "run"]) == 0
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert f"learning rate {config['optim']['lr']:g}, " in out
    assert (config["batch"], config["model"]["name"], config["budget"]["epochs"]) == (32, "mlp(16)", 5)
    assert config["optim"]["betas"] == [0.8, 0.99]


@pytest.mark.slow
def test_json_is_one_document_with_every_trial(capsys, blobs: str) -> None:
    code, out, _ = run(capsys, blobs, "--model", "mlp(16)", "--optim.lr", "0.5", "--seconds", "1", "--json")
    found = json.loads(out)
    assert code == (0 if found["informative"] else 1)
    assert found["origin"] == "request"
    assert found["configured"] == 0.5
    assert {"suggestion", "low", "high", "why", "diverges_at", "rates", "halvings", "range_test"} <= set(found)
    assert {"lr", "seed", "loss_start", "loss_end", "held_out", "diverged"} == set(found["trials"][0])
    assert len(found["trials"]) == sum(rate["trials"] for rate in found["rates"])


@pytest.mark.slow
def test_a_search_that_cannot_tell_ends_with_1(capsys, blobs: str) -> None:
    code, out, _ = run(capsys, blobs.replace("blobs", "noise"), "--model", "mlp(16)", "--seconds", "1")
    assert code == 1
    assert "not informative" in out
    assert "striate train" not in out


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nowhere"),
        (["iris", "--out", "found.jpg"], "found.png"),
        (["iris", "--out", "gone/found.png"], "mkdir -p gone"),
        (["iris", "--seconds", "-1"], "positive"),
        (["iris", "--model", "mlp(16"], "mlp(16"),
        (["iris", "--optim.nonsense", "1"], "no such field"),
        (["iris", "--set", "cv=5x5"], "leave out --cv"),
        (["iris", "--set", "baseline=true"], "leave out --baseline"),
        (["iris", "--epochs", "3", "--minutes", "1"], "epochs and minutes"),
    ],
)
def test_a_request_that_cannot_be_carried_out_is_explained(capsys, words: list[str], said: str) -> None:
    code, out, err = run(capsys, *words)
    assert code == 2
    assert not out
    assert said in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_configuration_file_is_part_of_the_command(blobs: str, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(f"data: {{source: {blobs}}}\nmodel: {{name: mlp(16)}}\noptim: {{name: sgd}}\nrecipe: quick\n")
    search = striate.find_learning_rate(config=file, set={"optim.momentum": 0.8}, seconds=1)
    assert search.optimizer == "sgd"
    assert search.command == f"striate train --config {file} --optim.momentum 0.8 --lr {search.suggestion:g}"
    same = striate.find_learning_rate(config=Config(), data=blobs, model="mlp(16)", seconds=1)
    assert same.command == f"striate train {blobs} --model 'mlp(16)' --lr {same.suggestion:g}"
    assert issubclass(UsageError, StriateError)


@pytest.mark.parametrize(
    ("outputs", "targets", "loss"),
    [
        ((2, 3), torch.tensor([0, 0, 1, 2]), 1.5 * math.log(2)),  # the entropy of ½, ¼, ¼
        ((2, 3, 2, 2), torch.tensor([0, 0, 1, 2]).repeat(2, 1).reshape(2, 2, 2).byte(), 1.5 * math.log(2)),
        ((2, 1), torch.tensor([[1.0], [3.0]]), 1.0),  # the variance
    ],
    ids=["classes", "masks", "numbers"],
)
def test_the_best_constant_answer_is_the_entropy_or_the_variance(outputs, targets, loss) -> None:
    names = ("a", "b", "c")
    tasks = {2: Classify(names), 4: Segment(names), 1: Regress(("t",), (0.0,), (1.0,))}
    task = tasks[1 if targets.is_floating_point() else len(outputs)]
    assert constant_prediction_loss(task, torch.randn(outputs), targets) == pytest.approx(loss, abs=1e-4)


def test_the_best_constant_caption_has_the_entropy_of_the_words() -> None:
    rows = torch.from_numpy(caption_rows([["a", "cat"], ["a", "dog"]], 8)[None].copy())
    entropy = 2 * math.log(3) / 3 + 2 * math.log(6) / 6
    assert constant_prediction_loss(Caption(("a", "cat", "dog")), {}, rows) == pytest.approx(entropy)


def test_trials_decide_weight_decay_as_a_run_with_their_rate_would() -> None:
    usual = prepare(merge_request(read_config(None), data="digits", fields={"model.name": "mlp(8)"}))
    fixed = prepare(
        merge_request(read_config(None), data="digits", fields={"model.name": "mlp(8)", "optim.weight_decay": 0.1})
    )
    steps, lr = usual.config.budget.steps, usual.config.optim.lr
    assert steps is not None
    assert lr is not None
    again = trials._trial_config(usual, lr, 30, 0).optim.weight_decay
    assert again == usual.config.optim.weight_decay
    assert trials._trial_config(usual, 4 * lr, 30, 0).optim.weight_decay == pytest.approx(again / 4, rel=0.1)
    assert trials._trial_config(fixed, 4 * lr, 30, 0).optim.weight_decay == 0.1
