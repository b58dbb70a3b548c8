"""`data.labels-random`: labels or numeric targets that are unrelated to the inputs."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

import striate
from for_checks.asked import (
    adam,
    asked,
    asked_in_script,
    digits,
    loop,
    more_rows,
    perceptron,
    pixels,
    read,
    said,
    stepped,
)
from for_checks.embeddings import Embedding, ImageTriplets, SignalTriplets, Spectra, step_of_triplets, waves
from for_checks.graphs import OfNodes, behind_each_other, loaded_graphs, step_of_graphs
from for_checks.networks import two_layers
from for_checks.pictures import Wedges, places
from for_checks.rewards import OwnLoss, _own_step
from for_checks.steps import told
from striate.doctor.checks.data.augmentation.augmentation import AUGMENTATION
from striate.doctor.checks.data.labels.imbalance import IMBALANCE
from striate.doctor.checks.data.labels.labels_random import LABELS_RANDOM
from striate.doctor.checks.data.labels.missing_class import MISSING_CLASS
from striate.doctor.evidence.clock import NoEvidence


def by_chance(y: Tensor) -> Tensor:
    return y[torch.randperm(len(y), generator=torch.Generator().manual_seed(2))]


@pytest.mark.slow
def test_labels_by_chance() -> None:
    x, y = pixels(640)
    (finding,) = asked(LABELS_RANDOM, perceptron(), (x, by_chance(y)))
    assert finding.severity == "error"
    assert "standard errors better than chance on held-out samples" in finding.measured
    assert not asked(LABELS_RANDOM, perceptron(), (x, y))


@pytest.mark.parametrize("fault", ["channels reversed in validation", "labels shuffled in training"])
def test_classes_that_validation_shows_in_another_way_are_not_random(fault: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 3, 6, 6, generator=generator)
    y, other = torch.randint(3, (2, 400), generator=generator)
    x[:, 0] += 2 * y[:, None, None]
    x[:, 2] += 2 * other[:, None, None]
    if shuffled := fault.startswith("labels"):
        train, val = (x[:200], by_chance(y[:200])), (x[200:], y[200:])
    else:
        train, val = (x[:200], y[:200]), (x[200:].flip(1), y[200:])
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 3))
    found = said(LABELS_RANDOM, model, train, val=val)
    assert ["fitted to validation" in one.measured for one in found] == [True] * shuffled


@pytest.mark.slow
def test_target_numbers_by_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 6, generator=generator)
    y = x[:, :1] - x[:, 1:2] + 0.3 * torch.randn(300, 1, generator=generator)
    options = {"loss": nn.MSELoss(), "task": "regress"}
    assert asked(LABELS_RANDOM, nn.Linear(6, 1), (x, by_chance(y)), **options)
    assert not asked(LABELS_RANDOM, nn.Linear(6, 1), (x, y), **options)


@pytest.mark.slow
def test_labels_of_a_rare_class_at_random() -> None:
    torch.manual_seed(0)
    x = torch.randn(2000, 6)
    y = (x[:, 0] + 0.5 * torch.randn(2000) > 1.6).long()
    mixed = y[torch.randperm(2000)]
    assert y.float().mean() < 0.1
    for labels, wrong in ((y, False), (mixed, True)):
        found = asked(LABELS_RANDOM, nn.Linear(6, 2), DataLoader(TensorDataset(x, labels), 32))
        assert bool(found) is wrong
        others = torch.randn(800, 6)
        val = (others, (others[:, 0] > 1.4).long())
        found = asked(LABELS_RANDOM, nn.Linear(6, 2), DataLoader(TensorDataset(x, labels), 32), val=val)
        assert bool(found) is wrong


@pytest.mark.slow
def test_labels_by_chance_that_are_one_in_a_row_of_zeros() -> None:
    """For a cross entropy of one's own, which is given targets first."""

    def step(model: nn.Module, batch: list[Tensor], optimizer: Any, _: object) -> Tensor:
        optimizer.zero_grad()
        loss = -(batch[1] * model(batch[0]).log_softmax(1)).sum(1).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    for labels, found in ((y, False), (by_chance(y), True)):
        loader = DataLoader(TensorDataset(x, nn.functional.one_hot(labels, 10).float()), 32, shuffle=True)
        assert bool(asked(LABELS_RANDOM, perceptron(), loader, step=step)) is found


def test_a_scale_that_comes_last_in_a_batch_is_no_target() -> None:
    """Windows, what follows, and the mean that both were divided by; the loss is none of torch's."""
    generator = torch.Generator().manual_seed(0)
    past, scale = torch.rand(300, 8, generator=generator) + 0.5, torch.rand(300, generator=generator) + 1

    def step(model: nn.Module, batch: list[Tensor], optimizer: Any, _: object) -> Tensor:
        optimizer.zero_grad()
        error = batch[1] - model(batch[0])
        loss = torch.maximum(0.1 * error, -0.9 * error).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    loader = DataLoader(TensorDataset(past, past[:, -2:], scale), 32)
    with pytest.raises(NoEvidence, match="which tensors of a batch are targets"):
        asked(LABELS_RANDOM, nn.Linear(8, 2), loader, step=step)


def test_a_weak_relation_is_one() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 4, generator=generator)
    y = (x[:, 0] + 2 * torch.randn(600, generator=generator) > 0).long()
    assert not asked(LABELS_RANDOM, nn.Linear(4, 2), (x, y))


def test_what_only_the_network_sees_is_no_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(0, 2, (800, 8), generator=generator).float() * 2 - 1
    y = (bits[:, :3].prod(1) > 0).long()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 2))
    assert not asked(LABELS_RANDOM, model, (bits, y), optimizer=lambda p: torch.optim.Adam(p, lr=2e-2))


class TwoTables(nn.Module):
    """Numbers and a category."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.out = nn.Embedding(4, 3), nn.Linear(7, 1)

    def forward(self, numbers: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        return self.out(torch.cat([numbers, self.embed(kind)], 1))


def over_two_tables(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> torch.Tensor:
    numbers, kind, y = batch
    value = nn.functional.mse_loss(model(numbers, kind)[:, 0], y)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value.detach()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("mixed", [True, False])
def test_targets_of_several_tables(mixed: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, kind = torch.randn(400, 4, generator=generator), torch.randint(0, 4, (400,), generator=generator)
    y = x[:, 0] + kind + 0.1 * torch.randn(400, generator=generator)
    loader = DataLoader(TensorDataset(x, kind, by_chance(y) if mixed else y), 32)
    options: dict[str, Any] = {"step": over_two_tables, "task": "regress"}
    assert bool(asked(LABELS_RANDOM, TwoTables(), loader, **options)) is mixed


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("paired", [False, True])
def test_images_that_come_again_with_other_labels_have_them_at_random(paired: bool) -> None:
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    rows = torch.randint(100, (400,), generator=torch.Generator().manual_seed(0))
    others = rows if paired else rows.roll(1)
    found = asked(LABELS_RANDOM, perceptron(), DataLoader(TensorDataset(x[rows], y[others]), 32))
    assert ["occur again" in finding.measured for finding in found] == [True] * (not paired)


@pytest.mark.parametrize("apart", [True, False])
def test_labels_beside_signals_by_which_triplets_are_chosen(apart: bool) -> None:
    signals, labels = waves(300, 0)
    labels = labels[torch.randperm(300, generator=torch.Generator().manual_seed(0))] if apart else labels
    model = Spectra()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step_of_triplets}
    said = asked_in_script(LABELS_RANDOM, model, DataLoader(SignalTriplets(signals, labels), 30), **options)
    assert ["chooses samples that belong together" in one.measured for one in said] == [True] * apart


class Liked(nn.Module):
    """How much users like items, by both alone."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(40, 1), nn.Embedding(30, 1)

    def forward(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        liked: torch.Tensor = self.users(users) + self.items(items)
        return liked.squeeze(1)


def liked_step(model: Any, batch: Any, optimizer: Any, _: Any) -> torch.Tensor:
    users, items, labels = batch
    optimizer.zero_grad()
    loss = nn.functional.binary_cross_entropy_with_logits(model(users, items), labels.float())
    loss.backward()
    optimizer.step()
    return loss


@pytest.mark.parametrize(("turned", "codes"), [(True, ["data.labels-random"]), (False, [])])
def test_labels_of_ids_say_the_opposite_of_validation(turned: bool, codes: list[str]) -> None:
    torch.manual_seed(0)
    users, items = torch.randint(40, (600,)), torch.randint(30, (600,))
    labels = (users * 7 % 40 < 20).long()
    train = DataLoader(TensorDataset(users[:400], items[:400], (labels[:400] - int(turned)).abs()), 16)
    val = DataLoader(TensorDataset(users[400:], items[400:], labels[400:]), 50)
    model = Liked()
    options: Any = {"val": val, "step": liked_step, "optimizer": torch.optim.Adam(model.parameters(), 0.1)}
    said = read("for x in loader:\n    pass\n", LABELS_RANDOM, model, train, **options)
    assert [one.code for one in said] == codes


@pytest.mark.parametrize("apart", [True, False])
def test_labels_by_which_triplets_are_chosen(apart: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    images = 0.1 * torch.randn(300, 1, 8, 8, generator=generator)
    images[torch.arange(300), 0, labels] += 1

    class Triplets(Dataset[Any]):
        def __init__(self) -> None:
            self.images = images
            self.labels = (labels[torch.randperm(300, generator=generator)] if apart else labels).tolist()

        def __len__(self) -> int:
            return 300

        def __getitem__(self, number: int) -> Any:
            same = [at for at in range(300) if self.labels[at] == self.labels[number]]
            return self.images[number], self.images[same[number % len(same)]], self.images[(number + 1) % 300]

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        loss = functional.triplet_margin_loss(*(model(part) for part in batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    model = Embedding()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    said = list[Any]()
    with suppress(NoEvidence):
        said = asked(LABELS_RANDOM, model, DataLoader(Triplets(), 30), optimizer=optimizer, step=step)
    assert ["chooses samples that belong together" in one.measured for one in said] == [True] * apart


def test_labels_are_not_at_random_where_no_step_is_made() -> None:
    """Which of four places two marks take up together, as no simple model tells."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randn(480, 12, generator=generator).sign()
    y = (signs[:, :5].prod(1) > 0).long()

    def uncalled(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value: Tensor = loss(model(batch[0]), batch[1])
        value.backward()
        _ = optimizer.step
        return value

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 2))
    train = DataLoader(TensorDataset(signs[:400], y[:400]), 20, shuffle=True)
    val = DataLoader(TensorDataset(signs[400:], y[400:]), 20)
    optimizer = torch.optim.Adam(model.parameters(), lr=math.exp(-7))
    found = striate.diagnose(model, train, val, optimizer=optimizer, step=uncalled, budget_seconds=20).findings
    assert [finding.code for finding in found if finding.severity == "error"] == ["optim.no-step"]


class TwoTowers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(64, 8), nn.Embedding(100, 8)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        score: Tensor = (self.users(user) * self.items(item)).sum(1)
        return score


def ranked(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
    user, liked, other = batch
    optimizer.zero_grad()
    loss: Tensor = -nn.functional.logsigmoid(model(user, liked) - model(user, other)).mean()
    loss.backward()
    optimizer.step()
    return loss.detach()


def test_items_that_a_recommender_is_shown_are_no_classes() -> None:
    data = TensorDataset(torch.arange(64).repeat(10), torch.randint(50, (640,)), 50 + torch.randint(50, (640,)))
    model = TwoTowers()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for check in (LABELS_RANDOM, IMBALANCE, MISSING_CLASS):
        with pytest.raises(NoEvidence, match="in the place of the targets"):
            asked(check, model, DataLoader(data, 32), step=ranked, optimizer=optimizer)


@pytest.mark.slow
@pytest.mark.parametrize("apart", [True, False])
def test_labels_of_graphs_have_to_do_with_them(apart: bool) -> None:
    train = DataLoader(loaded_graphs(800, 0, apart), 25, collate_fn=behind_each_other)
    found = said(LABELS_RANDOM, OfNodes(), train, loss=nn.CrossEntropyLoss(), optimizer=adam, step=step_of_graphs)
    assert [one.code for one in found] == ["data.labels-random"] * apart


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


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("apart", [True, False])
def test_places_beside_other_images_are_told(apart: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 64), nn.ReLU(), nn.Linear(64, 2))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    said = asked(LABELS_RANDOM, model, places(apart), loss=nn.MSELoss(), optimizer=optimizer)
    assert [one.code for one in said] == ["data.labels-random"] * apart


@pytest.mark.parametrize("way", ["the same", "another", "of each pair"])
def test_a_square_written_out_asks_for_noise_that_is_shown(way: str) -> None:
    """But codes may be brought near to numbers of a normal distribution, pair by pair."""

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        noise = torch.randn_like(batch[0])
        shown = noise if way == "the same" else torch.randn_like(noise)
        given = model(batch[0] + shown)
        apart = given[:, None] - noise[None] if way == "of each pair" else noise - given
        return stepped(apart.pow(2).mean(), optimizer)

    data = TensorDataset(torch.randn(96, 8), torch.zeros(96))
    found: list[Any] = []
    with suppress(NoEvidence):
        found = asked(LABELS_RANDOM, nn.Linear(8, 8), DataLoader(data, 32), step=step)
    assert ["not part of its input" in one.measured for one in found] == [True] * (way == "another")


class MeanTranslator(nn.Module):
    """Scores of the next tokens, by the one before and the mean of the source."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.source, self.before, self.scores = nn.Embedding(40, 16), nn.Embedding(40, 16), nn.Linear(16, 40)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.scores(self.source(source).mean(1, keepdim=True) + self.before(target))


def translations(apart: str) -> DataLoader[Any]:
    """Sentences of three to eight words, 4 to 39, and of each word another, in another order, behind a 1 and before a
    2; 0 fills them up. Targets may be in another order, or both sorted by their lengths."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 9, (800,), generator=generator).tolist()
    words = [4 + torch.randint(36, (length,), generator=generator) for length in lengths]
    other = 4 + torch.randperm(36, generator=generator)
    said = [other[each - 4].flip(0) for each in words]
    said = [each[2:] if int(each[0]) % 2 else each for each in said]  # some words are none in the other language
    if apart == "shuffled":
        said = [said[k] for k in torch.randperm(800, generator=generator)]
    elif apart == "sorted":
        words, said = sorted(words, key=len), sorted(said, key=len)
    bounds = torch.tensor([1]), torch.tensor([2])
    targets = [torch.cat([bounds[0], each, bounds[1]]) for each in said]

    def filled(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
        return tuple(nn.utils.rnn.pad_sequence(list(side), batch_first=True) for side in zip(*pairs, strict=True))

    return DataLoader(list(zip(words, targets, strict=True)), 40, collate_fn=filled)  # type: ignore[arg-type]


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("apart", ["", "shuffled", "sorted"])
def test_translations_lie_beside_their_sources(apart: str) -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        scores = model(batch[0], batch[1][:, :-1])
        value = functional.cross_entropy(scores.transpose(1, 2), batch[1][:, 1:], ignore_index=0)
        value.backward()
        optimizer.step()
        return value.detach()

    found = said(LABELS_RANDOM, MeanTranslator(), translations(apart), step=step, optimizer=adam)
    assert ["of the same lengths are shuffled" in one.measured for one in found] == [True] * bool(apart)


@pytest.mark.parametrize(
    ("wrong", "flat", "seldom"), [(True, False, False), (False, False, False), (True, True, False), (False, True, True)]
)
def test_pairs_of_samples_apart_from_their_labels(wrong: bool, flat: bool, seldom: bool) -> None:
    """Who is linked by pairs that are called the same is of one class; one side of pairs tells nothing of the label."""
    x, y = next(iter(digits(640)))
    x = x.flatten(1) if flat else x
    numbers = torch.Generator().manual_seed(0)
    y = y[torch.randperm(len(y), generator=numbers)] if wrong else y
    rows = {int(label): (y == label).nonzero().flatten() for label in y.unique()}

    def drawn(label: int) -> int:
        return int(rows[label][torch.randint(len(rows[label]), (), generator=numbers)])

    same = torch.arange(2 * len(x)) % 2
    others = [drawn(int(y[k // 2]) if k % 2 else (int(y[k // 2]) + 3) % 10) for k in range(len(same))]
    ones, others = x.repeat_interleave(2, 0), x[others]
    if seldom:  # each sample in one pair only
        ones, others = (part + 1e-3 * torch.randn(part.shape, generator=numbers) for part in (ones, others))
    pairs = TensorDataset(ones, others, same.float())
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        one, other, alike = batch
        apart = (model(one) - model(other)).norm(dim=1)
        return stepped((alike * apart**2 + (1 - alike) * functional.relu(1 - apart) ** 2).mean(), optimizer)

    found = said(LABELS_RANDOM, model, DataLoader(pairs, 64, shuffle=True), step=step, optimizer=adam)
    assert [one.code for one in found] == ["data.labels-random"] * wrong


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("anew", [False, True])
def test_noise_that_is_asked_for_was_added(anew: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        noise = torch.randn(batch[0].shape)
        shown = 0.7 * batch[0] + 0.7 * (torch.randn_like(noise) if anew else noise)
        return stepped(nn.functional.mse_loss(model(shown), noise), optimizer)

    torch.manual_seed(0)
    data = DataLoader(TensorDataset(torch.randn(128, 16), torch.randn(128)), 16)
    found = told(LABELS_RANDOM, nn.Linear(16, 16), data, step=step, task="regress")
    assert ["`randn`" in finding.measured for finding in found[:1]] == [anew]  # the loader's own targets are noise too


@pytest.mark.parametrize("apart", [True, False])
def test_labels_of_which_a_sample_has_several_and_none_belongs(apart: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    y = (torch.rand(400, 4, generator=generator) < 0.4).float()
    x = 0.2 * torch.randn(400, 1, 8, 8, generator=generator)
    x[:, 0, 0, :4] += y
    y = y[torch.randperm(400, generator=generator)] if apart else y
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    options: Any = {"loss": nn.BCEWithLogitsLoss(), "optimizer": torch.optim.Adam(model.parameters(), 1e-2)}
    said = asked_in_script(LABELS_RANDOM, model, DataLoader(TensorDataset(x, y), 40), **options)
    assert [one.code for one in said] == ["data.labels-random"] * apart


@pytest.mark.slow
@pytest.mark.parametrize("apart", [False, True])
def test_several_labels_of_rows_that_were_shuffled_apart(apart: bool) -> None:
    x = more_rows(800, 12)
    y = torch.stack([(x[:, i] + x[:, i + 1] > 0.3).float() for i in range(4)], 1)
    y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(3))] if apart else y
    train, val = DataLoader(TensorDataset(x[200:], y[200:]), 64, shuffle=True), (x[:200], y[:200])
    found = asked(LABELS_RANDOM, two_layers(12, 4), train, val=val, loss=nn.BCEWithLogitsLoss())
    assert bool(found) == apart


CROSS_ENTROPY = functional.cross_entropy


@pytest.mark.slow
@pytest.mark.parametrize("apart", [True, False])
def test_what_is_drawn_twice_is_held_out_once(apart: bool) -> None:
    """A loop draws its batches with replacement: a network that knows the training samples by heart knows most of those
    that were held out, whatever their labels say."""
    x, y = digits(most=400).dataset.tensors  # type: ignore[attr-defined]
    generator = torch.Generator().manual_seed(0)
    y = y[torch.randperm(len(y), generator=generator)] if apart else y
    drawn = torch.randint(len(x), (40 * 32,), generator=generator)
    batches = [(x[rows], y[rows]) for rows in drawn.split(32)]
    model = perceptron(256)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    found = asked(LABELS_RANDOM, model, batches, loss=CROSS_ENTROPY, optimizer=optimizer, step=loop)
    assert len(found) == apart


@pytest.mark.parametrize("apart", [True, False])
def test_labels_of_triplets_in_an_array(apart: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    images = 0.1 * torch.randn(300, 1, 8, 8, generator=generator)
    images[torch.arange(300), 0, labels] += 1
    labels = labels[torch.randperm(300, generator=generator)] if apart else labels
    model = Embedding()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step_of_triplets}
    said = asked_in_script(LABELS_RANDOM, model, DataLoader(ImageTriplets(images, labels.numpy()), 30), **options)
    assert ["chooses samples that belong together" in one.measured for one in said] == [True] * apart


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("apart", [True, False])
def test_labels_that_lie_beside_other_images_are_not_taken_for_augmentation(apart: bool) -> None:
    torch.manual_seed(0)
    train, val = Wedges(lambda x: x.roll(1, -1), 300), Wedges(lambda x: x, 200)
    if apart:
        train.y = train.y[torch.randperm(300)]
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 4))
    loaders = DataLoader(train, 32, shuffle=True), DataLoader(val, 100)
    said = [f.code for c in (LABELS_RANDOM, AUGMENTATION) for f in asked(c, model, loaders[0], val=loaders[1])]
    assert said == ["data.labels-random"] * apart
