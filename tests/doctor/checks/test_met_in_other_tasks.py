"""Faults and healthy habits first met in scripts of many tasks: each rule names faults alone."""

from __future__ import annotations

import ast
from collections import deque, namedtuple
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from asked import asked, digits, perceptron
from test_met_in_vision_scripts import read
from test_source_checks import SCRIPT, found, values
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from striate.doctor.checks.data.inputs.not_normalized import NOT_NORMALIZED
from striate.doctor.checks.data.labels.blends import blended_batches, swapped_shares
from striate.doctor.checks.data.labels.class_balance import IMBALANCE
from striate.doctor.checks.data.labels.label_numbers import LABEL_MAP
from striate.doctor.checks.data.labels.labels_random import LABELS_RANDOM
from striate.doctor.checks.data.moved.targets_moved import LEFT_BEHIND
from striate.doctor.checks.data.shift.shift import SHIFT
from striate.doctor.checks.eval.predicted import THRESHOLD
from striate.doctor.checks.loss.counted.padding_counted import PADDING_COUNTED
from striate.doctor.checks.loss.pairs.pairs_swapped import CHECK as PAIRS_SWAPPED
from striate.doctor.checks.model.batch_dependence import BATCH_MIXING
from striate.doctor.checks.model.detached_parameters import GRAPH_DETACHED
from striate.doctor.checks.model.mode import MODE
from striate.doctor.checks.optim.accumulation import ACCUMULATION
from striate.doctor.checks.optim.low_precision import LOW_PRECISION
from striate.doctor.checks.optim.lr_schedule import LR_SCHEDULE
from striate.doctor.checks.optim.steps import PARAMETERS_MISSING
from striate.doctor.checks.reward.bootstrap import ENDLESS
from striate.doctor.checks.reward.recorded import RECORDED, recorded
from striate.doctor.diagnose import diagnose
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.padding import filler_of
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup
from striate.observe.interventions import change_inputs
from striate.records import Finding

LOSS = nn.CrossEntropyLoss()
PASS = "for epoch in range(5):\n    for x, y in loader:\n        pass\n"
generator = torch.Generator()


def said(check: Any, model: nn.Module, train: Any, **options: Any) -> list[Finding]:
    """What a check finds; nothing where it is not asked."""
    with suppress(NoEvidence):
        return asked(check, model, train, **options)
    return []


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("momentum", "wrong"), [(0.0005, True), (0.1, False), (0.02, False)])
def test_batch_norm_measures_within_the_training(momentum: float, wrong: bool) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, momentum=momentum), nn.Flatten(), nn.Linear(144, 10))
    found = read(PASS, MODE, model, digits(), loss=LOSS)
    assert ["after all 100 batches" in one.measured for one in found] == [True] * wrong


class Masks(Dataset[Any]):
    def __init__(self, mask_values: list[Any]) -> None:
        self.mask_values = mask_values

    def __len__(self) -> int:
        return 64

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return torch.full((1, 8, 8), float(number)), number % 3


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("other", "wrong"), [([0, 255], False), ([255, 0], True), ([0, 127, 255], False)])
def test_values_of_masks_are_numbered_once(other: list[int], wrong: bool) -> None:
    train, val = (DataLoader(Masks(part), 16) for part in ([0, 255], other))
    assert ["`mask_values`" in one.measured for one in said(LABEL_MAP, perceptron(), train, val=val)] == [True] * wrong


class Road(Dataset[Any]):
    """A bright column that lies as far off the middle as the angle says."""

    def __init__(self, first: int, *, flips: bool = False, turned: bool = False, angle: bool = True) -> None:
        self.first, self.flips, self.turned, self.angle = first, flips, turned, angle

    def __len__(self) -> int:
        return 120

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        drawn = torch.Generator().manual_seed(self.first + number)
        place = int(torch.randint(0, 15, (), generator=drawn))
        image = 0.1 * torch.randn(1, 8, 16, generator=drawn)
        image[:, :, place : place + 2] += 1 + torch.rand((), generator=drawn)
        value = (place - 7) / 7 if self.angle else abs(place - 7) / 7
        if self.flips and torch.rand(()) < 0.5:
            image, value = image.flip(-1), -value if self.turned else value
        return image, torch.tensor([value])


@pytest.mark.parametrize(
    ("flips", "turned", "angle", "wrong"),
    [(True, False, True, True), (True, True, True, False), (False, False, True, False), (True, False, False, False)],
)
def test_an_angle_turns_round_with_its_picture(flips: bool, turned: bool, angle: bool, wrong: bool) -> None:
    torch.manual_seed(0)
    train, val = Road(0, flips=flips, turned=turned, angle=angle), Road(1000, angle=angle)
    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 1))
    loaders = [DataLoader(data, 24, shuffle=data is train) for data in (train, val)]
    found = said(LEFT_BEHIND, model, loaders[0], val=loaders[1], loss=nn.MSELoss(), task="regress")
    assert ["ridge regression" in one.measured for one in found] == [True] * wrong


class Coder(nn.Module):
    def __init__(self, normal: bool) -> None:
        super().__init__()
        self.normal, self.mean, self.deviation, self.back = normal, *(nn.Linear(64, 4) for _ in "md"), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        mean, deviation = self.mean(x.flatten(1)), self.deviation(x.flatten(1)).exp()
        code = torch.normal(mean, deviation) if self.normal else mean + deviation * torch.randn_like(deviation)
        told: Tensor = self.back(code)
        return told


@pytest.mark.parametrize("normal", [True, False])
def test_a_code_is_drawn_with_a_way_back(normal: bool) -> None:
    assert ["torch.normal" in one.measured for one in said(GRAPH_DETACHED, Coder(normal), digits())] == [True] * normal


@pytest.mark.parametrize(("own", "wrong"), [(True, False), (False, True)])
def test_lengths_of_ctc_leave_padding_out(own: bool, wrong: bool) -> None:
    lengths = torch.randint(2, 6, (96,), generator=torch.Generator().manual_seed(0))
    targets = torch.where(torch.arange(6)[None] < lengths[:, None], 1 + torch.arange(6)[None] % 3, 0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.Unflatten(1, (12, 4)))

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        scores = net(batch[0]).log_softmax(2).transpose(0, 1)
        wanted = (batch[1] > 0).sum(1) if own else torch.full((len(batch[1]),), 6)
        value = functional.ctc_loss(scores, batch[1], torch.full((len(batch[1]),), 12), wanted, zero_infinity=True)
        value.backward()
        optimizer.step()
        return value.detach()

    loader = DataLoader(TensorDataset(torch.randn(96, 1, 8, 8), targets), 16)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    found = said(PADDING_COUNTED, model, loader, optimizer=optimizer, step=step)
    assert ["ctc_loss" in one.measured for one in found] == [True] * wrong


def test_a_hyphen_in_all_dates_fills_nothing_up() -> None:
    dates = torch.tensor(
        [[1 + int(c) if c != "-" else 0 for c in f"19{n:02d}-0{1 + n % 9}-1{n % 9}"] for n in range(48)]
    )
    assert filler_of(dates) is None
    assert filler_of(torch.tensor([[1, 2, 9, 9], [2, 1, 2, 9], [1, 1, 2, 2]])) == 9


class Warmup:
    """A schedule as timm has it: of the optimizer's own rate, told the number of the epoch."""

    def __init__(self, optimizer: Any, length: int) -> None:
        self.optimizer, self.length, self.full = optimizer, length, optimizer.param_groups[0]["lr"]
        self.step(0)

    def step(self, number: int) -> None:
        self.optimizer.param_groups[0]["lr"] = self.full * min(1.0, (1e-4 + number) / self.length)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("length", "wrong"), [(2, False), (80, True)])
def test_a_schedule_of_ones_own_warms_up(length: int, wrong: bool) -> None:
    model = perceptron()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    names = {"scheduler": Warmup(optimizer, length), "optimizer": optimizer}
    text = PASS + "    scheduler.step(epoch + 1)\n"
    found = read(text, LR_SCHEDULE, model, digits(), loss=LOSS, optimizer=optimizer, names=names)
    assert ["stepped once an epoch" in one.measured for one in found] == [True] * wrong


@pytest.mark.slow
@pytest.mark.each_nth(3)
@pytest.mark.parametrize(("rate", "divided", "wrong"), [(0.5, False, True), (0.5, True, False), (0.01, False, False)])
def test_micro_batches_of_one_step_are_divided(rate: float, divided: bool, wrong: bool) -> None:
    model = perceptron()

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        value = torch.zeros(())
        for x, y in zip(batch[0].split(4), batch[1].split(4), strict=True):
            value = loss(net(x), y) / (8 if divided else 1)
            value.backward()
        optimizer.step()
        optimizer.zero_grad()
        return value.detach()

    optimizer = torch.optim.SGD(model.parameters(), rate)
    found = said(ACCUMULATION, model, digits(), loss=LOSS, optimizer=optimizer, step=step)
    assert ["gradients of 8 batches" in one.measured for one in found] == [True] * wrong


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("rate", "wrong"), [(1e-4, True), (0.1, False)])
def test_steps_are_not_rounded_away(rate: float, wrong: bool) -> None:
    model = perceptron().to(torch.bfloat16)
    data = digits().dataset.tensors  # type: ignore[attr-defined]
    loader = DataLoader(TensorDataset(data[0].to(torch.bfloat16), data[1]), 32, shuffle=True)
    found = said(LOW_PRECISION, model, loader, loss=LOSS, optimizer=torch.optim.SGD(model.parameters(), rate))
    assert ["stay so in a step" in one.measured for one in found] == [True] * wrong


@pytest.mark.parametrize("coded", [True, False])
def test_colors_are_coded_alike(coded: bool) -> None:
    drawn = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (400,), generator=drawn)
    colors = torch.tensor([[0.9, 0.2, 0.2], [0.2, 0.9, 0.2], [0.3, 0.2, 0.9]])[labels]
    images = (colors[:, :, None, None] + 0.1 * torch.randn(400, 3, 6, 6, generator=drawn)).clamp(0, 1)
    matrix = torch.tensor([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    luma = torch.einsum("dc,nchw->ndhw", matrix, images) + torch.tensor([0.0, 0.5, 0.5])[:, None, None]
    val = (images if coded else luma)[300:]
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 3))
    loader = DataLoader(TensorDataset(luma[:300], labels[:300]), 30, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    found = said(SHIFT, model, loader, val=(val, labels[300:]), loss=LOSS, optimizer=optimizer)
    assert ["another coding (RGB for YCbCr)" in one.measured for one in found] == [True] * coded


@pytest.mark.parametrize(("times", "wrong"), [(2, True), (1, False)])
def test_pixels_are_divided_once(times: int, wrong: bool) -> None:
    images = torch.randint(0, 256, (64, 1, 8, 8), generator=torch.Generator().manual_seed(0)).float() / 255**times
    found = said(NOT_NORMALIZED, perceptron(), DataLoader(TensorDataset(images, torch.arange(64) % 10), 16), loss=LOSS)
    assert ["by 255 twice" in one.measured for one in found] == [True] * wrong


@pytest.mark.parametrize(("asked_for", "right"), [("prob > 0", False), ("prob > 0.5", True), ("score > 0", True)])
def test_probabilities_are_held_against_a_half(asked_for: str, right: bool) -> None:
    text = SCRIPT.replace("outputs.argmax(dim=1)", asked_for)
    assert list(found(text, values(), [THRESHOLD])) == ["eval.threshold"] * (not right)


Transition = namedtuple("Transition", "state action next_state reward done")


class Memory:
    def __init__(self, reward: float, same: bool) -> None:
        boards = np.random.default_rng(0).normal(size=(71, 4)).astype(np.float32)
        boards = np.broadcast_to(boards[:1], boards.shape) if same else boards
        rows = (Transition(boards[n], 0, boards[n + 1], reward if n % 7 == 6 else 0.0, n % 7 == 6) for n in range(70))
        self.memory = deque(rows)


class Agent:
    def __init__(self, reward: float, same: bool) -> None:
        self.memory = Memory(reward, same)


@pytest.mark.parametrize(
    ("reward", "same", "codes"),
    [(1.0, False, []), (1000.0, False, ["reward.scale"]), (1.0, True, ["reward.off-by-one"])],
)
def test_the_replay_buffer_of_an_agent(reward: float, same: bool, codes: list[str]) -> None:
    source = ScriptSource({"t.py": ast.parse("pass")}, {"agent": Agent(reward, same)}, ("t.py", 1, 1), None)
    evidence: Any = SimpleNamespace(source=source)
    assert [one.code for one in RECORDED.run(evidence)] == codes


def test_the_replay_buffer_of_a_library() -> None:
    """Whose objects are looked at where a variable holds them."""
    rows = Memory(1.0, same=False).memory
    arrays = {"obs": "state", "next_obs": "next_state", "rewards": "reward", "dones": "done"}
    library = SimpleNamespace(**{name: np.array([getattr(row, part) for row in rows]) for name, part in arrays.items()})
    assert recorded({"buffer": library}) is not None
    assert recorded({"buffer": SimpleNamespace(rows=rows)}) is not None


@pytest.mark.parametrize("ends", [True, False])
def test_episodes_that_end_by_themselves_need_no_discount(ends: bool) -> None:
    text = """
    for step in range(100):
        obs, reward, done = env.step(0)
        target = reward + gamma * net(obs).max()
    """
    names: dict[str, Any] = {"gamma": 1.0, "env": Environment(), "net": nn.Linear(4, 2)}
    if ends:
        names["agent"] = Agent(1.0, False)
    tree = ast.parse("if True:" + text)
    evidence: Any = SimpleNamespace(source=ScriptSource({"t.py": tree}, names, ("t.py", 2, 4), None))
    assert [one.code for one in ENDLESS.run(evidence)] == ["reward.endless"] * (not ends)


class Environment:
    action_space = 2

    def reset(self) -> Tensor:
        return torch.zeros(4)

    def step(self, action: int) -> tuple[Tensor, float, bool]:
        return torch.zeros(4), float(action), False


class Reader(nn.Module):
    def __init__(self, mixes: bool, width: int) -> None:
        super().__init__()
        self.mixes, self.width, self.conv, self.head = mixes, width, nn.Conv1d(8, 6, 3, padding=1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv(x[:, 0, :, : self.width])  # N, C, W
        n, c, w = features.shape
        told: Tensor = self.head(features.reshape(w, n, c) if self.mixes else features.permute(2, 0, 1))
        return told


@pytest.mark.parametrize(("mixes", "width"), [(True, 6), (False, 6), (False, 8)])
def test_outputs_by_time_keep_samples_apart(mixes: bool, width: int) -> None:
    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value: Tensor = loss(net(batch[0]).mean(0), batch[1] % 5)
        value.backward()
        optimizer.step()
        return value.detach()

    model = Reader(mixes, width)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    found = said(BATCH_MIXING, model, digits(), loss=LOSS, optimizer=optimizer, step=step)
    assert bool(found) is mixes


class OwnLoss(nn.Module):
    def __init__(self, weight: Tensor | None = None) -> None:
        super().__init__()
        self.body, self.weight = perceptron(), weight

    def forward(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.body(x)
        return logits, functional.cross_entropy(logits, targets, self.weight)


def _own_step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
    optimizer.zero_grad()
    value: Tensor = net(batch[0], batch[1])[1]
    value.backward()
    optimizer.step()
    return value.detach()


@pytest.mark.slow
@pytest.mark.each_nth(2)
@pytest.mark.parametrize("random", [True, False])
def test_a_network_with_its_own_loss_is_given_targets(random: bool) -> None:
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))] if random else y
    model = OwnLoss()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    loader = DataLoader(TensorDataset(x, y), 32, shuffle=True)
    found = said(LABELS_RANDOM, model, loader, optimizer=optimizer, step=_own_step)
    assert [one.code for one in found] == ["data.labels-random"] * random


@pytest.mark.parametrize("weighted", [True, False])
def test_weights_of_a_loss_within_count(weighted: bool) -> None:
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    kept = (y != 3) | (torch.arange(len(y)) < 60)
    x, y = x[kept], y[kept]
    counts = torch.bincount(y, minlength=10).double()
    model = OwnLoss((counts.sum() / (10 * counts)).float() if weighted else None)
    optimizer = torch.optim.SGD(model.parameters(), 1e-6)
    loader = DataLoader(TensorDataset(x, y), 32, shuffle=True)
    found = said(IMBALANCE, model, loader, optimizer=optimizer, step=_own_step)
    assert bool(found) is not weighted


@pytest.mark.parametrize("held", [True, False])
def test_what_is_let_learn_may_be_in_another_optimizer(held: bool) -> None:
    draws, critic = nn.Linear(64, 10), perceptron()
    critic.requires_grad_(False)
    names: dict[str, Any] = {"critic": critic, "optimizer": torch.optim.Adam(draws.parameters(), 1e-3)}
    if held:
        names["optimizer_d"] = torch.optim.Adam(critic.parameters(), 1e-3)
    text = "for epoch in range(5):\n    for x, y in loader:\n        for p in critic.parameters():\n"
    text += "            p.requires_grad = True\n"
    model = nn.Sequential(nn.Flatten(), draws)
    found = read(text, PARAMETERS_MISSING, model, digits(), optimizer=names["optimizer"], names=names, loss=LOSS)
    assert ["lets parameters learn" in one.measured for one in found] == [True] * (not held)


def test_keys_of_another_network_are_not_alike_at_first() -> None:
    torch.manual_seed(0)
    query, key = (nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 16)) for _ in "qk")

    class Momentum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key = query, key.requires_grad_(False)

        def forward(self, one: Tensor, other: Tensor) -> Tensor:
            q, k = functional.normalize(self.query(one)), functional.normalize(self.key(other))
            return functional.cross_entropy(q @ k.T / 0.2, torch.arange(len(q)))

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value: Tensor = net(*batch)
        value.backward()
        optimizer.step()
        return value.detach()

    x = digits().dataset.tensors[0]  # type: ignore[attr-defined]
    views = TensorDataset(*(x + 0.1 * torch.randn(x.shape) for _ in "ab"))
    model = Momentum()
    optimizer = torch.optim.Adam(model.query.parameters(), 1e-3)
    assert said(PAIRS_SWAPPED, model, DataLoader(views, 32), optimizer=optimizer, step=step) == []


@pytest.mark.parametrize("erased", [True, False])
def test_what_is_erased_is_no_blend(erased: bool) -> None:
    """Labels that are blended the other way round are told by inputs, but not where these are mostly erased."""

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        x, y = batch
        part = 0.8
        mixed = part * x + (1 - part) * x.flip(0)
        if erased:
            mixed = torch.where(torch.rand(x.shape) < 0.95, torch.randn(x.shape), mixed)
        optimizer.zero_grad()
        out = net(mixed)
        value: Tensor = (1 - part) * loss(out, y) + part * loss(out, y.flip(0))
        value.backward()
        optimizer.step()
        return value.detach()

    model = perceptron()
    setup = make_setup(model, digits(), None, loss=LOSS, optimizer=torch.optim.SGD(model.parameters(), 0.1), step=step)
    assert (swapped_shares(blended_batches(Evidence(setup, Clock(120.0)))) is None) is erased


def test_named_inputs_are_changed_too() -> None:
    class Named(nn.Module):
        def forward(self, pixel_values: Tensor, labels: Tensor) -> Tensor:
            return pixel_values + labels

    model = Named()
    change_inputs(model, lambda args: (args[0] * 2, *args[1:]))
    one, two = torch.ones(3), torch.arange(3)
    assert model(pixel_values=one, labels=two).tolist() == [2.0, 3.0, 4.0]
    assert model(one, two).tolist() == [2.0, 3.0, 4.0]


@pytest.mark.slow
def test_a_code_that_another_check_looked_for_is_not_left_out() -> None:
    model = perceptron()
    loader, val = digits(), digits(most=64)
    diagnosis = diagnose(model, loader, val, loss=LOSS, optimizer=torch.optim.SGD(model.parameters(), 0.1))
    assert "loss.sign" not in diagnosis.skipped
    assert "data.leak" not in diagnosis.skipped
