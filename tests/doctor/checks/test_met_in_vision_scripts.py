"""Faults and healthy habits first met in others' training scripts for images: each rule names faults alone."""

from __future__ import annotations

import ast
import copy
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from asked import asked, digits, perceptron
from test_source_checks import SCRIPT, found, values
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR
from torch.utils.data import DataLoader, Dataset, Sampler, Subset, TensorDataset

from striate.doctor.checks.data.augmentation.augmentation import AUGMENTATION
from striate.doctor.checks.data.same_order import SAME_ORDER
from striate.doctor.checks.data.shift.shifted_tables import SHIFTED_TABLES
from striate.doctor.checks.data.splits.folds import SHARED_NETWORK
from striate.doctor.checks.data.splits.groups_shared import GROUPS_SHARED
from striate.doctor.checks.data.splits.split_overlap import SPLIT_OVERLAP
from striate.doctor.checks.eval.best import WORST_KEPT
from striate.doctor.checks.eval.modes import MODE as EVALUATION_MODE
from striate.doctor.checks.eval.predicted import THRESHOLD
from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.checks.fit.generalization import OVERFIT
from striate.doctor.checks.loss.task.term_scales import TERM_SCALES
from striate.doctor.checks.model.evaluates_untrained import CHECK as EVALUATES_UNTRAINED
from striate.doctor.checks.model.last_layer import LAST_LAYER_CLIPPED
from striate.doctor.checks.model.mode import MODE
from striate.doctor.checks.optim.lr_schedule import LR_SCHEDULE
from striate.doctor.checks.optim.rate_too_high import LR_TOO_HIGH
from striate.doctor.checks.optim.scheduler_calls import CHECK as SCHEDULER_CALLS
from striate.doctor.checks.optim.steps import NO_STEP, PARAMETERS_MISSING
from striate.doctor.checks.reward.recorded import recorded
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.setup.replicas import make_replica
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup
from striate.records import Finding
from striate.tasks.control.doctor import reward_values

LOSS = nn.CrossEntropyLoss()


def read(text: str, check: Any, model: nn.Module, train: Any, **options: Any) -> list[Finding]:
    """What a check says of a script with this loop in it, whose names are given."""
    tree, names = ast.parse(textwrap.dedent(text)), options.pop("names", {})
    loop = next(n for n in ast.walk(tree) if isinstance(n, ast.For) and ast.unparse(n.iter) == "loader")
    epochs = options.pop("epochs", 5)
    source = ScriptSource({"t.py": tree}, names, ("t.py", loop.lineno, loop.end_lineno or 0), epochs)
    said: list[Finding] = []
    with suppress(NoEvidence):
        said = asked(check, model, train, source=source, **options)
    return said


@pytest.mark.parametrize(
    ("test", "right"),
    [
        ("accuracy < best_accuracy or epoch == 0", False),
        ("accuracy > best_accuracy or epoch == 0", True),
    ],
)
def test_the_best_epoch_may_be_told_by_a_flag(test: str, right: bool) -> None:
    kept = f"    best = {test}\n    best_accuracy = accuracy if best else best_accuracy\n"
    text = SCRIPT.replace("    if accuracy > best_accuracy:\n        best_accuracy = accuracy\n", kept)
    assert list(found(text, values(), [WORST_KEPT])) == ["eval.worst-kept"] * (not right)


@pytest.mark.parametrize(
    ("kept", "loaded", "right"),
    [
        ("model.state_dict()", "model.load_state_dict(state)", False),
        ("copy.deepcopy(model.state_dict())", "model.load_state_dict(state)", True),
        ("{k: v.clone() for k, v in model.state_dict().items()}", "model.load_state_dict(state)", True),
        ("model.state_dict()", "torch.save(state, 'best.pt')", True),
    ],
)
def test_a_state_that_is_kept_is_a_copy(kept: str, loaded: str, right: bool) -> None:
    text = SCRIPT.replace("        best_accuracy = accuracy\n", f"        best_accuracy, state = accuracy, {kept}\n")
    assert list(found(text + loaded + "\n", values(), [WORST_KEPT])) == ["eval.worst-kept"] * (not right)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("added", "by", "right"),
    [
        ("criterion(outputs, y).item()", "len(val_loader.dataset)", False),
        ("F.cross_entropy(outputs, y)", "len(val_loader.dataset)", False),
        ("(outputs.argmax(1) - y).abs().float().mean().item()", "len(val_loader.dataset)", False),
        ("F.cross_entropy(outputs, y, reduction='sum')", "len(val_loader.dataset)", True),
        ("criterion(outputs, y).item() * len(y)", "len(val_loader.dataset)", True),
        ("criterion(outputs, y).item()", "len(val_loader)", True),
    ],
)
def test_mean_losses_are_divided_by_their_number(added: str, by: str, right: bool) -> None:
    text = SCRIPT.replace(
        "            total += len(y)\n", f"            total += len(y)\n            lost += {added}\n"
    )
    text = text.replace("    correct, total = 0, 0\n", "    correct, total, lost = 0, 0, 0\n")
    text = text.replace("    accuracy = correct / total\n", f"    accuracy = correct / total\n    lost /= {by}\n")
    assert list(found(text, values() | {"F": functional}, [WRONG_COUNT])) == ["eval.wrong-count"] * (not right)


@pytest.mark.parametrize(
    ("predicted", "right"),
    [
        ("y_prob.sigmoid() > 0.5", False),
        ("torch.sigmoid(outputs.sigmoid()) > 0.5", False),
        ("torch.sigmoid(logits) > 0.5", True),
        ("y_prob > 0.5", True),
    ],
)
def test_a_sigmoid_is_applied_once(predicted: str, right: bool) -> None:
    text = SCRIPT.replace("outputs.argmax(dim=1)", predicted)
    assert list(found(text, values(), [THRESHOLD])) == ["eval.threshold"] * (not right)


@pytest.mark.parametrize("right", [False, True])
def test_each_fold_has_a_network_also_in_a_function(right: bool) -> None:
    text = f"""
    def train_fold(fold):
        {"model = perceptron()" if right else "pass"}
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for x, y in loader:
            step(model, x, y)
    for fold in range(5):
        train_fold(fold)
    """
    model = perceptron()
    assert len(read(text, SHARED_NETWORK, model, digits(), names={"model": model})) == (not right)


@pytest.mark.parametrize(
    ("drawn", "right"),
    [
        ("random_split(full, [0.8, 0.2])", False),
        ("random_split(full, [0.8, 0.2], generator=torch.Generator().manual_seed(0))", True),
    ],
)
def test_a_data_module_draws_its_split_once(drawn: str, right: bool) -> None:
    text = f"""
    class Data(L.LightningDataModule):
        def setup(self, stage=None):
            self.train, self.test = {drawn}
    for x, y in loader:
        pass
    trainer.fit(model, data)
    trainer.test(model, data)
    """
    assert len(read(text, SPLIT_OVERLAP, perceptron(), digits())) == (not right)


class Scans(Dataset[Any]):
    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return torch.zeros(1, 8, 8), self.rows[number]["target"]


@pytest.mark.parametrize(
    ("key", "by_patient", "wrong"),
    [("patient_id", False, True), ("patient_id", True, False), ("user_id", False, False), ("image_id", False, False)],
)
def test_each_patient_is_on_one_side_of_the_split(key: str, by_patient: bool, wrong: bool) -> None:
    rows = [{"image": f"{n}.png", key: n // 3, "target": n % 2} for n in range(120)]
    order = range(120) if by_patient else torch.randperm(120, generator=torch.Generator().manual_seed(0)).tolist()
    data, chosen = Scans(rows), list(order)
    train, val = (DataLoader(Subset(data, part), 16) for part in (chosen[:90], chosen[90:]))
    said: list[Finding] = []
    with suppress(NoEvidence):
        said = asked(GROUPS_SHARED, perceptron(), train, val=val)
    assert ["`patient_id`" in one.measured for one in said] == [True] * wrong


class ByEpoch(Sampler[int]):
    def __init__(self, count: int) -> None:
        self.count, self.epoch = count, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(self.count, generator=torch.Generator().manual_seed(self.epoch))
        return iter(order[: self.count // 3].tolist())

    def __len__(self) -> int:
        return self.count // 3


@pytest.mark.parametrize("told", [False, True])
def test_a_sampler_is_told_its_epoch(told: bool) -> None:
    data = digits().dataset
    loader = DataLoader(data, 16, sampler=ByEpoch(len(data)))  # type: ignore[arg-type]
    begun = "sampler.set_epoch(epoch)" if told else "pass"
    text = f"for epoch in range(5):\n    {begun}\n    for x, y in loader:\n        pass\n"
    said = read(text, SAME_ORDER, perceptron(), loader)
    assert ["213 of 640 samples" in one.measured for one in said] == [True] * (not told)


@pytest.mark.parametrize("shuffled", [False, True])
def test_targets_of_validation_are_none_that_training_never_has(shuffled: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 5, generator=generator)
    y = x.sum(1, keepdim=True)
    order = torch.randperm(300, generator=generator) if shuffled else y[:, 0].argsort()
    (x, x_val), (y, y_val) = x[order].split((240, 60)), y[order].split((240, 60))
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1))
    loader = DataLoader(TensorDataset(x, y), 32, shuffle=True)
    said: list[Finding] = []
    with suppress(NoEvidence):
        said = asked(SHIFTED_TABLES, model, loader, val=(x_val, y_val), loss=nn.MSELoss(), task="regress")
    assert [one.where for one in said] == ["validation targets"] * (not shuffled)


SCHEDULED = """
for epoch in range(5):
    for x, y in loader:
        train(x, y)
        scheduler.step()
"""


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("made", "measured"),
    [
        (lambda o: LambdaLR(o, lambda step: 1 - step / 40), "below zero"),
        (lambda o: LambdaLR(o, lambda step: 1 - step / 100), ""),
        (lambda o: LinearLR(o, 0.01, total_iters=1000), "grows from"),
        (lambda o: LinearLR(o, 0.01, total_iters=40), ""),
        (lambda o: CosineAnnealingLR(o, 100), ""),
    ],
)
def test_a_schedule_is_as_long_as_the_training(made: Callable[[Any], Any], measured: str) -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    scheduler = made(optimizer)

    def step(net: nn.Module, batch: Any, own: torch.optim.Optimizer, loss: Any) -> Tensor:
        own.zero_grad()
        value: Tensor = loss(net(batch[0]), batch[1])
        value.backward()
        own.step()
        own.state_dict  # noqa: B018 — the scheduler is the script's, and the rate is set by it
        scheduler.step()
        return value.detach()

    names = {"scheduler": scheduler, "optimizer": optimizer}
    said = read(SCHEDULED, LR_SCHEDULE, model, digits(), loss=LOSS, optimizer=optimizer, step=step, names=names)
    assert [measured in one.measured for one in said] == [True] * bool(measured)


def test_a_schedule_may_be_all_of_the_rate() -> None:
    """As of transformers: the optimizer's own rate is 1."""
    model = perceptron()
    optimizer = torch.optim.Adam(model.parameters(), 1.0)
    scheduler = LambdaLR(optimizer, lambda step: 1e-2 * min((step + 1) / 400, (400 / (step + 1)) ** 0.5))

    def step(net: nn.Module, batch: Any, own: torch.optim.Optimizer, loss: Any) -> Tensor:
        own.zero_grad()
        value: Tensor = loss(net(batch[0]), batch[1])
        value.backward()
        own.step()
        scheduler.step()
        return value.detach()

    options: Any = {"loss": LOSS, "optimizer": optimizer, "step": step, "epochs": 50}
    for check in (LR_SCHEDULE, LR_TOO_HIGH):
        names = {"scheduler": scheduler, "optimizer": optimizer}
        assert read(SCHEDULED, check, model, digits(), names=names, **options) == []


@pytest.mark.slow
def test_a_rate_that_a_warmup_leads_to_is_tried() -> None:
    for rate, wrong in ((3.0, True), (3e-3, False)):
        model = perceptron()
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate)

        def step(net: nn.Module, batch: Any, own: torch.optim.Optimizer, loss: Any, rate: float = rate) -> Tensor:
            for group in own.param_groups:
                group["lr"] = min(rate, group["lr"] + rate * 1e-6) if group["lr"] < rate else rate * 1e-6
            own.zero_grad()
            value: Tensor = loss(net(batch[0]), batch[1])
            value.backward()
            own.step()
            return value.detach()

        found = asked(LR_TOO_HIGH, model, digits(), loss=LOSS, optimizer=optimizer, step=step)
        assert ["on its way to 3" in one.measured for one in found] == [True] * wrong


def test_a_scheduler_of_a_training_before_is_none_of_this() -> None:
    names = values()
    before = torch.optim.SGD(perceptron().parameters(), 0.1)
    names["scheduler"] = CosineAnnealingLR(before, 5)
    before.step()
    for _ in range(5):
        names["scheduler"].step()
    text = SCRIPT.replace("    scheduler.step()\n", "") + "scheduler.step()\n"
    with pytest.raises(NoEvidence, match="no scheduler"):
        found(text, names, [SCHEDULER_CALLS])


@pytest.mark.parametrize("later", [False, True])
def test_what_learns_later_is_in_the_optimizer_that_is_made_then(later: bool) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    model[1].requires_grad_(False)
    optimizer = torch.optim.SGD(model[3].parameters(), 0.1)
    made = "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)" if later else "pass"
    text = f"""
    for epoch in range(5):
        for x, y in loader:
            train(x, y)
        if epoch == 3:
            model[1].requires_grad_(True)
            {made}
    """
    said = read(text, PARAMETERS_MISSING, model, digits(), loss=LOSS, optimizer=optimizer, names={"model": model})
    assert len(said) == (not later)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("detached", [False, True])
def test_each_optimizer_of_a_loop_has_gradients(detached: bool) -> None:
    made, judge = nn.Sequential(nn.Linear(4, 64), nn.Tanh()), perceptron()
    of_made, of_judge = torch.optim.Adam(made.parameters(), 1e-3), torch.optim.Adam(judge.parameters(), 1e-3)

    def step(net: nn.Module, batch: Any, own: torch.optim.Optimizer, loss: Any) -> Tensor:
        fake = made(torch.randn(len(batch[0]), 4)).reshape(-1, 1, 8, 8)
        own.zero_grad()
        value: Tensor = loss(net(batch[0]), batch[1]) + net(fake.detach()).square().mean()
        value.backward()
        own.step()
        of_made.zero_grad()
        net(fake.detach() if detached else fake).square().mean().backward()
        of_made.step()
        return value.detach()

    names = {"optimizerD": of_judge, "optimizerG": of_made, "made": made}
    text = "for x, y in loader:\n    pass\n"
    said = read(text, NO_STEP, judge, digits(), loss=LOSS, optimizer=of_judge, step=step, names=names)
    assert ["`optimizerG`" in one.measured for one in said] == [True] * detached


@pytest.mark.parametrize("wide", [False, True])
def test_boxes_behind_a_mask_are_within_what_a_sigmoid_gives(wide: bool) -> None:
    x = torch.randn(96, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    boxes = torch.rand(96, 4, generator=torch.Generator().manual_seed(1)) * (4 if wide else 1)
    there = torch.arange(96) % 3 > 0
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Sigmoid())

    def step(net: nn.Module, batch: Any, own: torch.optim.Optimizer, _: Any) -> Tensor:
        own.zero_grad()
        value = functional.mse_loss(net(batch[0])[batch[2]], batch[1][batch[2]])
        value.backward()
        own.step()
        return value.detach()

    loader = DataLoader(TensorDataset(x, boxes, there), 32)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    said = asked(LAST_LAYER_CLIPPED, model, loader, loss=nn.MSELoss(), optimizer=optimizer, step=step, task="regress")
    assert len(said) == wide


class Dropped(nn.Module):
    def __init__(self, always: bool) -> None:
        super().__init__()
        self.body, self.head, self.always = nn.Linear(64, 32), nn.Linear(32, 10), always
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x.flatten(1)).relu()
        if self.training or self.always:
            h = h * h.new_empty(len(h), 1).bernoulli_(0.7) / 0.7
        out: Tensor = self.head(h)
        return out


@pytest.mark.parametrize("always", [False, True])
def test_randomness_in_evaluation_is_seen_behind_a_head_that_begins_at_zero(always: bool) -> None:
    torch.manual_seed(0)
    model = Dropped(always)
    said = asked(MODE, model, digits(), loss=LOSS, optimizer=torch.optim.Adam(model.parameters(), 1e-3))
    assert ["in evaluation mode" in one.measured for one in said] == [True] * always


class Augmented(Dataset[Any]):
    def __init__(self, x: Tensor, y: Tensor, noise: float) -> None:
        self.x, self.y, self.noise = x, y, noise

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        return self.x[number] + self.noise * torch.randn(200), self.y[number]


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "severity"), [(0.0, "warning"), (0.01, "note")])
def test_learning_augmented_samples_by_heart_is_a_note(noise: float, severity: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(280, 200, generator=generator)
    y = (x[:, 0] + 0.7 * torch.randn(280, generator=generator) > 0).long()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(200, 64), nn.ReLU(), nn.Linear(64, 2))
    loader = DataLoader(Augmented(x[:80], y[:80], noise), 16, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    (said,) = asked(OVERFIT, model, loader, val=(x[80:], y[80:]), loss=LOSS, optimizer=optimizer)
    assert said.severity == severity


class State:
    shared: dict[str, Any] = {"on": False}  # noqa: RUF012 — what is tried

    def __init__(self) -> None:
        self.__dict__ = State.shared


def test_states_that_all_objects_share_stay_shared() -> None:
    model, state = perceptron(), State()

    def step(net: nn.Module, batch: Any, own: torch.optim.Optimizer, loss: Any) -> Tensor:
        if state.on:
            own.zero_grad()
            loss(net(batch[0]), batch[1]).backward()
            own.step()
        return torch.zeros(())

    step.__module__ = "__main__"
    twin = make_replica(
        make_setup(model, digits(), loss=LOSS, step=step, optimizer=torch.optim.SGD(model.parameters(), 0.1))
    )
    before = [p.detach().clone() for p in twin.model.parameters()]
    State.shared["on"] = True
    try:
        twin.step(twin.model, next(iter(digits())), twin.optimizer, twin.loss)
    finally:
        State.shared["on"] = False
    assert not all(torch.equal(p, q) for p, q in zip(before, twin.model.parameters(), strict=True))


class Buffer:
    def __init__(self, filled: int) -> None:
        rng = np.random.default_rng(0)
        self.obs, self.next_obs = np.zeros((500, 4), np.float32), np.zeros((500, 4), np.float32)
        self.obs[:filled], self.next_obs[:filled] = rng.normal(size=(2, filled, 4))
        self.rewards, self.dones = np.full(500, -0.01), np.zeros(500, bool)
        self.size, self.position, self.full = 500, filled, filled == 500


@pytest.mark.parametrize("filled", [100, 500])
def test_of_a_replay_buffer_what_is_filled_is_read(filled: int) -> None:
    told = recorded({"buffer": Buffer(filled if filled < 500 else 500)})
    assert told is not None
    assert len(told[1].rewards) == filled


@pytest.mark.parametrize(("goal", "tiny"), [(1.0, False), (0.01, True)])
def test_a_price_for_each_step_is_beside_what_a_goal_pays(goal: float, tiny: bool) -> None:
    rewards = np.append(np.full(99, -0.01), goal)
    assert [one.code for one in reward_values(rewards, "here")] == ["reward.scale"] * tiny


@pytest.mark.parametrize(
    ("reconstruction", "divergence", "right"),
    [
        ("F.mse_loss(out, x)", "-0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)", False),
        ("F.mse_loss(out, x, reduction='mean')", "-0.5 * torch.sum(1 + logvar - mu ** 2 - logvar.exp())", False),
        ("F.mse_loss(out, x, reduction='sum')", "-0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())", True),
        ("F.mse_loss(out, x)", "-0.5 * torch.mean(1 + logvar - mu.pow(2) - logvar.exp())", True),
        ("F.mse_loss(out, x)", "-0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), dim=1).mean()", False),
        ("F.mse_loss(out, x)", "-0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), 1).mean() * beta", False),
        ("F.mse_loss(out, x)", "-0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), 1).mean() * 0.01", True),
        ("64 * F.mse_loss(out, x)", "-0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)", True),
    ],
)
def test_terms_of_a_variational_autoencoder_have_one_scale(reconstruction: str, divergence: str, right: bool) -> None:
    text = f"""
    def criterion(out, x, mu, logvar):
        rec = {reconstruction}
        kld = {divergence}
        return rec + kld
    for x, y in loader:
        beta = min(1.0, epoch / 10)
        loss = criterion(model(x))
    """
    assert len(read(text, TERM_SCALES, perceptron(), digits())) == (not right)


@pytest.mark.parametrize(("start", "right"), [(5, False), (4, True)])
def test_an_average_begins_within_the_training(start: int, right: bool) -> None:
    text = """
    for epoch in range(5):
        for x, y in loader:
            train(x, y)
        if epoch >= start:
            average.update_parameters(model)
    """
    options = {"names": {"start": start}, "loss": LOSS, "optimizer": None}
    model = perceptron()
    options["optimizer"] = torch.optim.SGD(model.parameters(), 0.1)
    said = read(text, EVALUATES_UNTRAINED, model, digits(), **options)
    assert ["never comes" in one.measured for one in said] == [True] * (not right)


@pytest.mark.parametrize(("made", "limit", "right"), [("torch.sigmoid(outputs)", 0, False), ("outputs", 0, True)])
def test_shares_in_a_variable_are_held_against_a_share(made: str, limit: int, right: bool) -> None:
    text = SCRIPT.replace("predicted = outputs.argmax(dim=1)", f"p = {made}\n            predicted = p > {limit}")
    assert list(found(text, values(), [THRESHOLD])) == ["eval.threshold"] * (not right)


@pytest.mark.parametrize("trained", [False, True])
def test_a_network_that_no_optimizer_holds_is_named(trained: bool) -> None:
    model = perceptron()
    torch.manual_seed(0)
    other = nn.Linear(64, 64)
    if trained:
        with torch.no_grad():
            other.weight.copy_(torch.eye(64) * torch.linspace(0.1, 3, 64) + 0.02)
            other.bias.add_(1.0)
    tree = ast.parse("for x, y in loader:\n    pass\n")
    source = ScriptSource({"t.py": tree}, {"encoder": other}, ("t.py", 1, 2), 5, without_optimizer=(other,))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    said = asked(PARAMETERS_MISSING, model, digits(), loss=LOSS, optimizer=optimizer, source=source)
    assert [one.where for one in said] == ["`encoder`"] * (not trained)


@pytest.mark.parametrize("average", [False, True])
def test_an_average_is_in_evaluation_mode_from_its_beginning(average: bool) -> None:
    class Trainer:
        def __init__(self) -> None:
            self.model = nn.Sequential(perceptron(), nn.Dropout(0.1))
            self.average = copy.deepcopy(self.model).eval()

    trainer = Trainer()
    text = f"""
    class Trainer:
        def __init__(self, model):
            self.average = copy.deepcopy(model).eval()
        @torch.no_grad()
        def validate(self):
            model = self.{"average" if average else "model"}
            for x, y in val_loader:
                right += (model(x).argmax(1) == y).sum()
        def fit(self):
            for epoch in range(5):
                self.model.train()
                for x, y in loader:
                    step(x, y)
                self.validate()
    """
    said = read(text, EVALUATION_MODE, trainer.model, digits(), names={"self": trainer, "val_loader": digits()})
    assert len(said) == (not average)


class Views(Dataset[Any]):
    def __init__(self, same: bool) -> None:
        self.same = same

    def __len__(self) -> int:
        return 64

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        image = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(number))
        one, other = (image + 0.1 * torch.randn(1, 8, 8) for _ in range(2))
        return one, one.clone() if self.same else other


@pytest.mark.parametrize("same", [False, True])
def test_two_views_that_are_given_one_by_one_differ(same: bool) -> None:
    model = perceptron()

    def step(net: nn.Module, batch: Any, own: torch.optim.Optimizer, _: Any) -> Tensor:
        own.zero_grad()
        one, other = (functional.normalize(net(view)) for view in batch)
        value = functional.cross_entropy(one @ other.T / 0.5, torch.arange(len(one)))
        value.backward()
        own.step()
        return value.detach()

    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    said: list[Finding] = []
    with suppress(NoEvidence):
        said = asked(AUGMENTATION, model, DataLoader(Views(same), 16), loss=LOSS, optimizer=optimizer, step=step)
    assert ["number for number" in one.measured for one in said] == [True] * same
