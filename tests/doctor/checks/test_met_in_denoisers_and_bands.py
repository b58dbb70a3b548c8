"""Images that a data set changes by being asked, bands made of the target, drawings alike by chance, items drawn anew;
and their twins."""

from __future__ import annotations

import ast
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from asked import asked, digits, perceptron
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.augmentation.augmentation import AUGMENTATION
from striate.doctor.checks.data.moved.targets_moved import LEFT_BEHIND
from striate.doctor.checks.data.splits.repeated_samples import LEAK
from striate.doctor.checks.data.splits.split_overlap import SPLIT_OVERLAP
from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.eval.padding_in_count import padding_counted
from striate.doctor.checks.loss.pairs.pairs_swapped import CHECK as PAIRS_SWAPPED
from striate.doctor.checks.loss.sign.sign import SIGN
from striate.doctor.checks.reward.recorded import recorded
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import parts
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup
from striate.records import Finding


def said(check: Check, model: nn.Module, train: Any, **options: Any) -> list[Finding]:
    with suppress(NoEvidence):
        return asked(check, model, train, **options)
    return []


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.003)


class Noisy(Dataset[Any]):
    """Noisy images beside their class or themselves; the noise is added in place or to a copy."""

    def __init__(self, in_place: bool, asks_for_image: bool) -> None:
        self.images = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        self.in_place, self.asks_for_image = in_place, asks_for_image

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        clean = self.images[index]
        noisy = clean if self.in_place else clean.clone()
        noisy += 0.3 * torch.randn(clean.shape)
        return {"noisy": noisy, "clean": clean} if self.asks_for_image else (noisy, index % 2)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("in_place", "asks_for_image"), [(True, True), (True, False), (False, True), (False, False)])
def test_what_a_data_set_holds_stays_as_it_is(in_place: bool, asks_for_image: bool) -> None:
    data = Noisy(in_place, asks_for_image)
    model = nn.Conv2d(1, 1, 3, padding=1) if asks_for_image else nn.Sequential(nn.Flatten(), nn.Linear(64, 2))

    def step(net: nn.Module, batch: Any, own: Any, _: Any) -> Tensor:
        own.zero_grad()
        x, y = batch.values() if asks_for_image else batch
        value = functional.mse_loss(net(x), y) if asks_for_image else functional.cross_entropy(net(x), y)
        value.backward()
        own.step()
        return value.detach()

    before = data.images.clone()
    data[0]
    data.images.copy_(before)
    for check, own in ((TARGET_IN_INPUT, asks_for_image), (AUGMENTATION, not asks_for_image)):
        found = said(check, model, DataLoader(data, 16), optimizer=adam, step=step)
        assert ["afterwards" in one.measured or "once it was asked" in one.measured for one in found] == [True] * (
            in_place and own
        )


def test_two_tensors_of_a_dictionary_are_input_and_target_in_their_order() -> None:
    noisy, clean = torch.rand(2, 3), torch.rand(2, 3)
    assert parts({"noisy": noisy, "clean": clean}) == (noisy, clean)
    tokens, mask = torch.ones(2, 3).long(), torch.ones(2, 3)
    inputs, wanted = parts({"input_ids": tokens, "attention_mask": mask})
    assert inputs is wanted


@pytest.mark.parametrize("turned", [True, False])
def test_a_loss_of_the_step_s_own_makes_restored_images_better(turned: bool) -> None:
    class Score(nn.Module):
        def forward(self, restored: Tensor, clean: Tensor) -> Tensor:
            score = -10 * (restored - clean).square().mean((1, 2, 3)).log10().mean()
            return score if turned else -score

    def step(net: nn.Module, batch: Any, own: Any, loss: Any) -> Tensor:
        own.zero_grad()
        value: Tensor = loss(net(batch["noisy"]), batch["clean"])
        value.backward()
        own.step()
        return value.detach()

    model = nn.Conv2d(1, 1, 3, padding=1)
    found = said(SIGN, model, DataLoader(Noisy(False, True), 16), loss=Score(), optimizer=adam, step=step)
    assert ["squared error" in one.measured for one in found] == [True] * turned


@pytest.mark.parametrize("column", ["band", "rounded after noise", "none"])
def test_a_band_that_is_made_of_the_target_is_no_input(column: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 6, generator=generator)
    y = x[:, :4].sum(1) + torch.randn(400, generator=generator)
    if column == "band":
        x[:, 5] = torch.bucketize(y, y.quantile(torch.linspace(0, 1, 11)[1:-1])).float()
    elif column == "rounded after noise":
        x[:, 5] = (y + 0.3 * torch.randn(400, generator=generator)).round()
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))
    data = DataLoader(TensorDataset(x, y[:, None]), 32)
    found = said(TARGET_IN_INPUT, model, data, loss=nn.MSELoss(), optimizer=adam)
    assert ["range of their own" in one.measured for one in found] == [True] * (column == "band")


class Drawn(Dataset[Any]):
    """Glyphs in one color of a few, or photographs, with noise that is another one each time."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index] + 0.5 * torch.randn(1, 8, 8), self.images[index]


@pytest.mark.parametrize("drawings", [True, False])
def test_drawings_that_are_equal_by_chance_are_no_leak(drawings: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    kinds = torch.rand(20, 1, 8, 8, generator=generator)
    kinds = (kinds > 0.5).float() if drawings else kinds
    train, val = (kinds[torch.randint(20, (count,), generator=generator)] for count in (90, 40))
    options: dict[str, Any] = {"loss": nn.MSELoss(), "optimizer": adam, "val": DataLoader(Drawn(val), 16)}
    found = said(LEAK, nn.Conv2d(1, 1, 3, padding=1), DataLoader(Drawn(train), 16, shuffle=True), **options)
    assert ["as the data sets hold it" in one.measured for one in found] == [True] * (not drawings)


class Experiment:
    def __init__(self, test: Tensor) -> None:
        self.test_x = test


@pytest.mark.parametrize("first", [10, 40])
def test_images_of_an_object_are_compared_with_those_of_the_training_data(first: int) -> None:
    images = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    data = DataLoader(TensorDataset(images[:40], torch.arange(40) % 10), 16, shuffle=True)
    source = ScriptSource({"train.py": ast.parse("self")}, {"self": Experiment(images[first:])}, ("train.py", 1, 1), 3)
    setup = make_setup(perceptron(), data, None, source=source)
    found = [one.where for one in SPLIT_OVERLAP.run(Evidence(setup, Clock(20.0)))]
    assert found == ["the training data set and self.test_x"] * (first < 40)


@pytest.mark.parametrize("dealt", [True, False])
def test_what_a_function_deals_to_two_parts_itself_is_split(dealt: bool) -> None:
    x = torch.rand(1000, 4)
    names: dict[str, Any] = {"x_train": x, "x_val": x[800:], "x": x[:800] if dealt else x}
    source = ScriptSource({"train.py": ast.parse("x_train = x_val = x")}, names, ("train.py", 1, 1), 3)
    setup = make_setup(perceptron(), digits(), None, source=source)
    found = [one.where for one in SPLIT_OVERLAP.run(Evidence(setup, Clock(20.0)))]
    assert found == ["x_train and x_val"] * (not dealt)


class Triples(Dataset[Any]):
    """Users, an item that each chose, and another that is drawn anew, but is none of those that it chose."""

    def __init__(self) -> None:
        self.users, self.items = torch.arange(60).repeat(6), torch.randint(30, (360,), generator=torch.manual_seed(0))
        self.chosen = [set(self.items[self.users == user].tolist()) for user in range(60)]

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, index: int) -> tuple[int, int, int]:
        user = int(self.users[index])
        other = int(torch.randint(30, ()))
        while other in self.chosen[user]:
            other = int(torch.randint(30, ()))
        return user, int(self.items[index]), other


class Factors(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(60, 4), nn.Embedding(30, 4)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return (self.users(users) * self.items(items)).sum(-1)


@pytest.mark.parametrize("turned", [True, False])
def test_items_that_are_drawn_anew_are_ranked_below_those_that_stay(turned: bool) -> None:
    def step(net: nn.Module, batch: Any, own: Any, _: Any) -> Tensor:
        own.zero_grad()
        users, items, others = batch
        above = net(users, items) - net(users, others)
        value = -functional.logsigmoid(-above if turned else above).mean()
        value.backward()
        own.step()
        return value.detach()

    found = said(PAIRS_SWAPPED, Factors(), DataLoader(Triples(), 32, shuffle=True), step=step, optimizer=adam)
    assert ["is another each time" in one.measured for one in found] == [True] * turned


@pytest.mark.parametrize("one_array", [True, False])
def test_observations_that_are_equal_since_nothing_happens_are_no_fault(one_array: bool) -> None:
    kept = np.ones(4)
    rows = [(kept if one_array else kept.copy(), 0, 0.0, kept if one_array else kept.copy(), False) for _ in range(60)]
    found = recorded({"memory": rows})
    assert found is not None
    assert found[1].one_array == one_array
    columns = np.ones((60, 4))
    buffer = SimpleNamespace(observations=columns, next_observations=columns, rewards=np.zeros(60), pos=60)
    found = recorded({"rb": buffer})
    assert found is not None
    assert not found[1].one_array


@pytest.mark.parametrize(
    ("counted", "by_all"),
    [("tags.numel()", True), ("int(mask.sum())", False), ("tags[mask].numel()", False), ("words.numel()", False)],
)
def test_right_tags_are_divided_by_those_that_count(counted: str, by_all: bool) -> None:
    text = f"""
def evaluate(net, loader):
    right, total = 0, 0
    for words, tags in loader:
        predicted = net(words).argmax(-1)
        mask = tags != -100
        right += int(((predicted == tags) & mask).sum())
        total += {counted}
    return right / total
"""
    source = ScriptSource({"train.py": ast.parse(text)}, {}, ("train.py", 1, 1), 3)
    assert [ast.unparse(node) for node in padding_counted(source)] == ["right / total"] * by_all


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("axis", "left"), [(-1, True), (-1, False), (-2, True), (-2, False)])
def test_maps_are_mirrored_with_noisy_images_of_positions(axis: int, left: bool) -> None:
    images = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    maps = (images > 0.5).float()

    def step(net: nn.Module, rows: Any, own: Any, _: Any) -> Tensor:
        own.zero_grad()
        x, y = images[rows] + 0.01 * torch.randn(len(rows), 1, 8, 8), maps[rows]
        if torch.rand(()) < 0.5:
            x, y = x.flip(axis), y if left else y.flip(axis)
        value = functional.binary_cross_entropy_with_logits(net(x), y)
        value.backward()
        own.step()
        return value.detach()

    batches = list(torch.arange(60).split(20))
    found = said(LEFT_BEHIND, nn.Conv2d(1, 1, 3, padding=1), batches, optimizer=adam, step=step)
    assert ["the same map as before" in one.measured for one in found] == [True] * left
