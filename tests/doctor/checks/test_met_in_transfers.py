"""Trainings one after the other, samplers of one's own, buffers of discounts and of mirrored moves: what was met in
scripts, and its twins."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from asked import perceptron
from test_met_in_common_scripts import loader
from test_met_in_plates_and_buffers import frame_of
from test_reward_checks import SCRIPT, found, transitions
from test_reward_checks import values as played
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset

from striate.doctor.checks.data.shift.prepared_apart import smoothness_apart
from striate.doctor.evidence.reading import shared_positions
from striate.doctor.script.training_loop import TrainingLoop
from striate.doctor.script.validation_data import find_validation

TRAININGS = """run_epoch(teacher, source_dl, optimizer)
{made}
optimizer = SGD(net.features[1:].parameters())
for epoch in range(9):
    run_epoch(net, {trained_on}, optimizer)
    print(accuracy({asked}, val_dl), len(val_dl))
"""


@pytest.mark.parametrize(
    ("made", "trained_on", "asked", "own"),
    [
        ("net = Net()", "train_dl", "net", False),
        ("net = Net()", "train_dl", "teacher", True),
        ("net = Net()", "train_dl", "nn.Sequential(teacher, net)", True),
        ("net = Net()", "source_dl", "net", True),
        ("teacher.load_state_dict(best)", "train_dl", "net", True),
        ("teacher = net = Net()", "train_dl", "teacher", True),
    ],
)
def test_what_a_later_network_alone_is_asked_about_is_no_validation(
    made: str, trained_on: str, asked: str, own: bool, tmp_path: Path
) -> None:
    source, train, val = (loader(seed) for seed in range(3))
    names = {"source_dl": source, "train_dl": train, "val_dl": val, "teacher": perceptron()}
    file = tmp_path / "script.py"
    file.write_text(TRAININGS.format(made=made, trained_on=trained_on, asked=asked))
    frame = frame_of(str(file), **names)
    assert (find_validation(TrainingLoop(print, source, "here", {}), [frame], None) is val) is own


FITTED = """stem = pretrain(make_stem(), train_set.tensors[0])
{made}
{trainer}
"""


@pytest.mark.parametrize(
    ("made", "trainer", "own"),
    [
        ("model = Reader(stem)", "trainer.fit(model, DataLoader(train_set), DataLoader(val_set))", False),
        (
            "model = Reader(stem)",
            "val_dl = DataLoader(val_set)\ntrainer.fit(model, DataLoader(train_set), val_dl)",
            False,
        ),
        ("model = Reader(stem)", "trainer.test(model, DataLoader(val_set))", True),
        ("", "evaluate(stem, DataLoader(val_set))", True),
    ],
)
def test_a_data_set_that_a_later_network_is_fitted_with_is_no_validation(
    made: str, trainer: str, own: bool, tmp_path: Path
) -> None:
    x, y = torch.randn(64, 4), torch.arange(64) % 3
    names = {"train_set": TensorDataset(x, y), "val_set": TensorDataset(x + 0.01, y)}
    file = tmp_path / "script.py"
    file.write_text(FITTED.format(made=made, trainer=trainer))
    frame = frame_of(str(file), **names)
    loop = TrainingLoop(print, [(x[:16], y[:16])], "here", {})
    val = find_validation(loop, [frame], x[:16], y[:16])
    assert (val is not None and val.dataset is names["val_set"]) is own


class InGroups(Sampler[Any]):
    """Positions by chance, or batches of four."""

    def __init__(self, numbers: range, batches: bool) -> None:
        self.numbers, self.batches = torch.tensor(numbers), batches

    def __iter__(self) -> Any:
        order = self.numbers[torch.randperm(len(self.numbers))]
        yield from (group.tolist() for group in order.split(4)) if self.batches else order.tolist()


@pytest.mark.parametrize("batches", [True, False])
@pytest.mark.parametrize(("first", "shared"), [(8, 0), (4, 4)])
def test_what_a_sampler_of_ones_own_draws_is_trained_on(batches: bool, first: int, shared: int) -> None:
    data = TensorDataset(torch.arange(32.0))
    sampler = InGroups(range(first, 32), batches)
    before = torch.get_rng_state()
    train = DataLoader(data, batch_sampler=sampler) if batches else DataLoader(data, 4, sampler=sampler)
    val = DataLoader(torch.utils.data.Subset(data, range(8)), 4)
    assert shared_positions(train, val) == (shared, 8)
    assert torch.equal(torch.get_rng_state(), before)


DISCOUNTS = (
    SCRIPT.replace("s, a, r, s2, d =", "s, a, r, s2, discounts =")
    .replace("gamma * next_values * (1 - d.float())", "discounts * next_values")
    .replace("next_obs, terminated))", "next_obs, 0.0 if terminated else gamma))")
)


@pytest.mark.parametrize("at_end", [0.0, 0.99])
@pytest.mark.parametrize("name", ["", "discounts", "not_dones"])
def test_a_discount_of_zero_marks_the_end_of_an_episode(name: str, at_end: float) -> None:
    rows = [(*row[:4], at_end if row[4] else 0.99) for row in transitions()]
    if name == "not_dones":
        rows = [(*row[:4], row[4] > 0) for row in rows]
    memory: Any = deque(rows)
    if name:
        columns = [np.array(part) for part in zip(*rows, strict=True)]
        memory = SimpleNamespace(**dict(zip(("obs", "actions", "rewards", "next_obs", name), columns, strict=True)))
    said = found(DISCOUNTS, played(memory=memory, discounts=torch.ones(32)))
    assert said == ["reward.terminal-lost"] * (at_end > 0)


TURNED = "    memory.append((turned(obs), 1 - action, reward, turned(next_obs), terminated))\n"
IN_TURN = "    for each in players:\n"
IN_TURN += "        memory.append((obs[each], action[each], reward[each], next_obs[each], d[each]))\n"


@pytest.mark.parametrize(("more", "in_order"), [("", True), (TURNED, False), (IN_TURN, False)])
def test_moves_that_are_stored_twice_are_not_in_the_order_of_time(more: str, in_order: bool) -> None:
    memory = deque[Any]()
    for row in transitions():
        memory += [row, (row[0][::-1].copy(), 1 - row[1], row[2], row[3][::-1].copy(), row[4])]
    stored = "    memory.append((obs, action, reward, next_obs, terminated))\n"
    assert stored in SCRIPT
    text = SCRIPT.replace(stored, more if more == IN_TURN else stored + more)
    assert ("reward.off-by-one" in found(text, played(memory=memory))) is in_order


class Drawn(Dataset[Any]):
    """Smooth images (1, 16, 16), turned, in another light and with noise."""

    def __init__(self, images: Tensor, noise: float) -> None:
        self.images, self.noise = images, noise

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        light, image = float(0.8 + 0.4 * torch.rand(())), self.images[number].rot90(int(torch.randint(4, ())), (1, 2))
        return light * image + self.noise * torch.randn(image.shape), 0


@pytest.mark.parametrize(("noise", "apart"), [(0.3, False), (0.0, True)])
def test_validation_without_the_noise_of_augmentation_is_not_filtered_otherwise(noise: float, apart: bool) -> None:
    torch.manual_seed(0)
    images = nn.functional.interpolate(torch.randn(120, 1, 6, 6), size=(16, 16), mode="bilinear")
    train = Drawn(images[:60], noise)
    known = torch.stack([train[number][0] for number in range(60)])
    val = images[60:] if noise else nn.functional.avg_pool2d(images[60:], 5, 1, 2)
    evidence: Any = SimpleNamespace(drawn_anew=True, setup=SimpleNamespace(train=DataLoader(train, 20)))
    assert bool(smoothness_apart(evidence, known, val)) is apart
