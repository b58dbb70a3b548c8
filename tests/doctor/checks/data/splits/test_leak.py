"""`data.leak`: are any validation samples also trained on?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset, SubsetRandomSampler, TensorDataset

from for_checks.asked import adam, asked, asked_in_script, digits, parts, perceptron, read, said, stepped
from for_checks.embeddings import Embedding, ImageTriplets, step_of_triplets
from for_checks.graphs import Tables, items_chosen, loader, ranking
from for_checks.pictures import ResidualDenoiser
from for_checks.steps import told
from striate.doctor.checks.data.splits.duplicates import DUPLICATES
from striate.doctor.checks.data.splits.leak import LEAK
from striate.doctor.evidence.clock import NoEvidence
from striate.records import Finding

Pair = tuple[Tensor, Tensor]


class Turned(Dataset[Pair]):
    """Gives each sample turned by a quarter, so that no sample of one is equal to one of the other."""

    def __init__(self, base: Dataset[Pair], times: int) -> None:
        self.base, self.times = base, times

    def __len__(self) -> int:
        return len(self.base)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Pair:
        x, y = self.base[index]
        return x.rot90(self.times, (1, 2)), y


@pytest.mark.parametrize("first", [500, 560])
def test_splits_are_seen_through_what_changes_their_samples(first: int) -> None:
    whole = TensorDataset(*parts()[0])
    train, val = Turned(Subset(whole, range(560)), 1), Turned(Subset(whole, range(first, 640)), 0)
    found = asked(LEAK, perceptron(), DataLoader(train, 32, shuffle=True), val=DataLoader(val, 32))
    assert [one.code for one in found] == ["data.leak"] * (first < 560)


def test_separate_parts_share_nothing() -> None:
    train, val = parts()
    assert not asked(LEAK, perceptron(), train, val=val)
    assert not asked(DUPLICATES, perceptron(), train, val=val)


@pytest.mark.parametrize(("copies", "severity"), [(9, "note"), (16, "warning"), (30, "error")])
def test_equal_images_are_counted_and_shown(copies: int, severity: str) -> None:
    train, val = parts()
    both = torch.cat([train[0][:copies], val[0]]), torch.cat([train[1][:copies], val[1]])
    (finding,) = asked(LEAK, perceptron(), train, val=both)
    assert finding.severity == severity
    assert f"{copies} of {260 + copies} validation samples are identical to a training sample" in finding.measured
    assert "validation sample 0 and training sample" in finding.measured


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("again", "alike"),
    [
        (
            lambda x: x + 0.03 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)),
            "nearly identical to a training sample",
        ),
        (lambda x: 1.2 * x - 0.1, "a training sample except for brightness and contrast"),
    ],
    ids=["noise", "brightness"],
)
def test_near_copies_are_found(again: Callable[[Tensor], Tensor], alike: str) -> None:
    train, _ = parts()
    (finding,) = asked(LEAK, perceptron(), train, val=(again(train[0][:150]), train[1][:150]))
    assert alike in finding.measured


def test_samplers_of_one_set_may_overlap() -> None:
    train, _ = parts()
    data = TensorDataset(*train)
    one = DataLoader(data, 32, sampler=SubsetRandomSampler(range(500)))
    other = DataLoader(data, 32, sampler=SubsetRandomSampler(range(450, 640)))
    apart = DataLoader(data, 32, sampler=SubsetRandomSampler(range(500, 640)))
    (finding,) = asked(LEAK, perceptron(), one, val=other)
    assert "50 of 190 validation samples are the same positions" in finding.measured
    assert not asked(LEAK, perceptron(), one, val=apart)


def test_rows_of_few_values_agree_by_chance() -> None:
    x = torch.randint(0, 3, (400, 4), generator=torch.Generator().manual_seed(0)).float()
    y = (x[:, 0] > x[:, 1]).long()
    assert not asked(LEAK, nn.Linear(4, 2), (x[:300], y[:300]), val=(x[300:], y[300:]))
    assert not asked(DUPLICATES, nn.Linear(4, 2), (x, y))


class Records(Dataset[Any]):
    """Images that a list holds by name, brightened at random for training."""

    def __init__(self, rows: slice, training: bool) -> None:
        x, y = digits().dataset.tensors  # type: ignore[attr-defined]
        pairs = zip(x[rows], y[rows], strict=True)
        self.records = [{"img": image, "label": label} for image, label in pairs]
        self.training = training

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        image, label = self.records[place].values()
        return image * (0.8 + 0.4 * torch.rand(()) if self.training else 1.0) + 0.3 * self.training, label


@pytest.mark.parametrize("first", [100, 160])
def test_records_by_name_that_are_held_for_training_and_validation(first: int) -> None:
    train = DataLoader(Records(slice(160), True), 32, shuffle=True)
    said = asked(LEAK, perceptron(), train, val=DataLoader(Records(slice(first, first + 60), False), 32))
    assert [one.code for one in said] == ["data.leak"] * (first < 160)


class Partners(Dataset[Any]):
    """Noisy images beside partners that are drawn anew, or, for validation, once and for all."""

    def __init__(self, images: Tensor, kept: bool) -> None:
        self.images = images
        self.partners = torch.randint(len(images), (len(images),)).tolist() if kept else None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        partner = int(torch.randint(len(self), ())) if self.partners is None else self.partners[index]
        one, other = self.images[index], self.images[partner]
        return one + 0.1 * torch.randn_like(one), other, torch.tensor(float(partner == index))


@pytest.mark.parametrize("first", [0, 150])
def test_partners_that_validation_keeps_do_not_hide_its_images(first: int) -> None:
    class Differences(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 4)

        def forward(self, one: Tensor, other: Tensor) -> Tensor:
            return functional.pairwise_distance(self.layer(one.flatten(1)), self.layer(other.flatten(1)))

    images = digits(most=210).dataset.tensors[0]  # type: ignore[attr-defined]
    train = DataLoader(Partners(images[first:], False), 20, shuffle=True)
    val = DataLoader(Partners(images[:100], True), 20)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        return stepped((model(*batch[:2]) - 1 + batch[2]).square().mean(), optimizer)

    found = said(LEAK, Differences(), train, val=val, step=step, optimizer=adam)
    assert ["made from the same stored image" in one.measured for one in found] == [True] * (first == 0)


LOSS = nn.CrossEntropyLoss()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("before", [True, False])
def test_brighter_copies_in_training_and_validation_are_no_new_pictures(before: bool) -> None:
    """`before`: the copies were made before the split, else of training alone."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(400, 1, 12, 12, generator=generator)
    new = torch.rand(120, 1, 12, 12, generator=generator)
    val = 0.8 * x[:120] + 0.05 if before else new
    train = torch.cat([x, 1.2 * x - 0.1])
    loaders = [DataLoader(TensorDataset(part, torch.arange(len(part)) % 3), 40) for part in (train, val)]
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 3))
    told = said(LEAK, model, loaders[0], val=loaders[1], loss=LOSS)
    assert [finding.code for finding in told] == ["data.leak"] * before


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
    assert ["made from the same stored image" in one.measured for one in found] == [True] * (not drawings)


@pytest.mark.parametrize(("leaks", "together"), [(True, False), (True, True), (False, False), (False, True)])
def test_items_held_out_are_no_pairs_of_training(leaks: bool, together: bool) -> None:
    users, items = items_chosen()
    train = loader(users if leaks else users[:, :8], items if leaks else items[:, :8], together=together)
    val = loader(users[:, 8], items[:, 8], together=together)
    found = said(LEAK, Tables(), train, val=val, step=ranking(), optimizer=adam)
    assert [one.code for one in found] == ["data.leak"] * leaks


def test_pairs_that_come_again_and_again_may_be_in_validation_as_well() -> None:
    users, items = items_chosen()
    train = loader(users.repeat(1, 2), items.repeat(1, 2))
    val = loader(users[:, :3], items[:, :3])
    assert not said(LEAK, Tables(), train, val=val, step=ranking(), optimizer=adam)


class Listed(Dataset[tuple[Tensor, int]]):
    """Images with labels in a list, shifted at random for training."""

    def __init__(self, samples: list[tuple[Tensor, int]], train: bool) -> None:
        self.samples, self.train = samples, train

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        image, label = self.samples[number]
        shift = torch.randint(-2, 3, (2,)).tolist() if self.train else (0, 0)
        return image.roll(shift, (-2, -1)) + 0.3 * self.train * torch.randn_like(image), label


@pytest.mark.parametrize("times", [1, 2])
def test_a_list_is_split_before_it_is_repeated(times: int) -> None:
    images = torch.randn(120, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    samples = [(image, number % 3) for number, image in enumerate(images)] * times
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0)).tolist()
    train, val = ([samples[number] for number in part] for part in (order[40:], order[:40]))
    loaders = DataLoader(Listed(train, True), 16, shuffle=True), DataLoader(Listed(val, False), 20)
    network = nn.Sequential(nn.Flatten(), nn.Linear(144, 3))
    found = asked(LEAK, network, loaders[0], val=loaders[1])
    assert [finding.code for finding in found] == ["data.leak"] * (times - 1)


@pytest.mark.parametrize("trained", [True, False])
def test_an_item_that_is_kept_for_each_user_is_not_trained_on(trained: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    liked = torch.stack([torch.randperm(200, generator=generator)[:6] for _ in range(120)])
    chosen = liked if trained else liked[:, 1:]
    pairs = torch.stack([torch.arange(120).repeat_interleave(chosen.shape[1]), chosen.flatten()], 1)
    pairs = pairs[torch.randperm(len(pairs), generator=generator)]

    class Towers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.users, self.items = nn.Embedding(120, 8), nn.Embedding(200, 8)

        def forward(self, users: Tensor, items: Tensor) -> Tensor:
            return self.users(users) @ self.items(items).T

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: object) -> Tensor:
        loss = functional.cross_entropy(model(*batch), torch.arange(len(batch[0])))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    model = Towers()
    loader = DataLoader(TensorDataset(pairs[:, 0], pairs[:, 1]), 32)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    names = {"holdout": liked[:, 0]}
    said = read(
        "for users, items in loader:\n    pass\n", LEAK, model, loader, step=step, optimizer=optimizer, names=names
    )
    assert [one.code for one in said] == ["data.leak"] * trained


class ImageTeller(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.look, self.words, self.say = nn.Linear(64, 12), nn.Embedding(12, 12), nn.Linear(12, 12)

    def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
        return self.say(torch.relu(self.look(image.flatten(1)))[:, None] + self.words(tokens))


@pytest.mark.parametrize(("first", "words", "wrong"), [(0, 0, True), (100, 0, False), (0, 1, False)])
def test_images_with_their_questions_are_in_both_parts(first: int, words: int, wrong: bool) -> None:
    """All of a sample has to be the same: there may be several questions about an image."""
    images = torch.randn(160, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    questions, answers = torch.arange(160 * 4).reshape(2, 160, 2) % 12
    model = ImageTeller()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step(image: Tensor, question: Tensor, answer: Tensor) -> Tensor:
        loss = functional.cross_entropy(model(image, question).flatten(0, 1), answer.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    train = DataLoader(TensorDataset(images[first:], questions[first:], answers[first:]), 20)
    val = DataLoader(TensorDataset(images[:60], (questions[:60] + words) % 12, answers[:60]), 20)
    said: list[Finding] = []
    with suppress(NoEvidence):
        said = asked(LEAK, model, train, val=val, step=step)
    assert [one.code for one in said] == ["data.leak"] * wrong


@pytest.mark.parametrize("kind", ["one color", "two colors", "copied"])
def test_drawings_in_one_color_that_are_drawn_twice_are_noted(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    glyphs = (torch.rand(150, 1, 8, 8, generator=generator) > 0.5).float()
    if kind == "two colors":
        glyphs[:, :, 0, 0] = 0.5
    train, val = (glyphs[torch.randint(150, (count,), generator=generator)] for count in (60, 60))
    if kind == "copied":  # training itself has no drawing twice
        train, val = glyphs[:40], glyphs[30:90]
    model = ResidualDenoiser()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 0.001), "loss": nn.MSELoss()}
    options["val"] = DataLoader(TensorDataset(val, val), 16)
    said = asked_in_script(LEAK, model, DataLoader(TensorDataset(train, train), 16), **options)
    assert [one.severity for one in said] == ["note" if kind == "one color" else "error"]


def sentences(count: int, words: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    return TensorDataset(torch.randint(0, words, (count, 3), generator=generator), torch.arange(count) % 2)


@pytest.mark.parametrize(("words", "severity"), [(5, "note"), (40, "error")])
def test_short_sentences_are_said_twice(words: int, severity: str) -> None:
    train, val = sentences(400, words, 0), sentences(100, words, 1)
    if severity == "error":
        val = TensorDataset(train.tensors[0][:100], train.tensors[1][:100])
    network = nn.Sequential(nn.Embedding(words, 4), nn.Flatten(), nn.Linear(12, 2))
    found = told(LEAK, network, DataLoader(train, 32), val=DataLoader(val, 32))
    assert [finding.severity for finding in found] == [severity][: len(found)]
    assert found or severity == "note"


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("further", [True, False])
def test_a_history_that_goes_on_is_no_copy(further: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    known = torch.randint(1, 200, (200, 12), generator=generator)
    length = torch.randint(6, 12, (200,), generator=generator)
    known *= torch.arange(12) < length[:, None]
    more, rows = known[:60].clone(), torch.arange(60)
    place = length[:60] if further else torch.randint(2, 6, (60,), generator=generator)
    more[rows, place] += 5
    model = nn.Sequential(nn.Embedding(205, 8), nn.Flatten(), nn.Linear(96, 200))
    train, val = ((x, x[:, 0]) for x in (known, more))
    assert len(asked(LEAK, model, train, val=val)) == (not further)


@pytest.mark.parametrize("apart", [False, True])
def test_triplets_of_images_that_validation_holds(apart: bool) -> None:
    torch.manual_seed(0)
    images, labels = torch.rand(120, 1, 8, 8), torch.arange(120) % 3
    used = slice(90) if apart else slice(None)
    train = DataLoader(ImageTriplets(images[used], labels[used]), 30)
    val = DataLoader(TensorDataset(images[90:], labels[90:]), 30)
    model = Embedding()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step_of_triplets, "val": val}
    said = asked_in_script(LEAK, model, train, **options)
    assert ["30 of 30" in one.measured for one in said] == [True] * (not apart)


class Factors(nn.Module):
    """The product of a user's and an item's numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(60, 4), nn.Embedding(50, 4)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return (self.users(users) * self.items(items)).sum(1)


def ratings_step(model: nn.Module, batch: list[Tensor], optimizer: torch.optim.Optimizer, loss: nn.Module) -> Tensor:
    optimizer.zero_grad()
    value: Tensor = loss(model(batch[0], batch[1]), batch[2])
    value.backward()
    optimizer.step()
    return value.detach()


@pytest.mark.parametrize(("kind", "wrong"), [("apart", False), ("all", True), ("drawn", False)])
def test_pairs_of_validation_are_found_in_training(kind: str, wrong: bool) -> None:
    torch.manual_seed(0)
    pairs = torch.randperm(3000)[:1500]
    ratings = torch.randint(1, 6, (1500,)).float()
    if kind == "drawn":  # among pairs that come again anyway
        pairs, ratings = torch.randint(0, 3000, (1500,)) // 4 * 4, torch.full((1500,), 3.0)
        ratings[::5] = 1.0
    columns = pairs // 50, pairs % 50, ratings
    first = 0 if kind == "all" else 300
    train, val = (TensorDataset(*(c[rows] for c in columns)) for rows in (slice(first, None), slice(300)))
    options: dict[str, Any] = {"val": DataLoader(val, 100), "loss": nn.MSELoss(), "step": ratings_step}
    found = asked(LEAK, Factors(), DataLoader(train, 50, shuffle=True), **options)
    assert [f.code for f in found] == ["data.leak"] * wrong
