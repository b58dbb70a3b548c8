"""`loss.pairs-swapped`: does the loss pull matching pairs together and others apart?"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from for_checks.asked import adam, asked, asked_in_script, digits, perceptron, said, stepped
from for_checks.embeddings import (
    DeepEmbedding,
    Embedding,
    contrast_of_views,
    embedding,
    noisy,
    opposite,
    step_of_triplets,
    supervised_contrast,
)
from for_checks.graphs import Tables, items_chosen, loader, ranking
from for_checks.sequences import tones
from for_checks.steps import told
from striate.doctor.checks.loss.pairs.pairs_swapped import CHECK as PAIRS_SWAPPED
from striate.doctor.checks.loss.pairs.pairs_swapped import _classes_brought_together
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup


class Siamese(nn.Module):
    """Embeddings of both inputs in one call."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = perceptron()

    def forward(self, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        return self.embed(one), self.embed(other)


def pairs_of_digits() -> DataLoader[Any]:
    """Each digit beside another; 1 where they are different."""
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    order = y.argsort()
    others = torch.where(torch.arange(len(x)) % 2 == 0, order.roll(1), order.roll(len(x) // 2))
    return DataLoader(TensorDataset(x[order], x[others], (y[order] != y[others]).float()), 64, shuffle=True)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("equal", [0, 1])
def test_pairs_that_one_call_embeds_are_seen(equal: int) -> None:
    loader = pairs_of_digits()

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        apart = functional.pairwise_distance(*model(batch[0], batch[1]))
        label = 1 - batch[2] if equal else batch[2]
        loss = ((1 - label) * apart**2 + label * functional.relu(1 - apart) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    found = asked(PAIRS_SWAPPED, Siamese(), loader, step=step)
    assert [finding.code for finding in found] == ["loss.pairs-swapped"] * equal


class Distances(nn.Module):
    """How far the embeddings of both inputs are apart; `weighed`: a score of that, by weights that are learned."""

    def __init__(self, weighed: bool = False) -> None:
        super().__init__()
        self.embed, self.weighed, self.score = perceptron(), weighed, nn.Linear(10, 1, bias=False)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        apart = self.embed(one) - self.embed(other)
        weighed: Tensor = self.score(apart.abs()).flatten()
        return weighed if self.weighed else (apart.square().sum(1) + 1e-12).sqrt()


@pytest.mark.parametrize("equal", [0, 1])
def test_pairs_whose_distance_a_network_gives_are_seen(equal: int) -> None:
    """`equal`: the label of pairs of one class, for a loss that pulls those of label 0 together."""

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        apart, label = model(batch[0], batch[1]), 1 - batch[2] if equal else batch[2]
        return stepped(((1 - label) * apart**2 + label * functional.relu(1 - apart) ** 2).mean(), optimizer)

    found = asked(PAIRS_SWAPPED, Distances(), pairs_of_digits(), step=step)
    assert [finding.code for finding in found] == ["loss.pairs-swapped"] * equal


def test_distances_that_are_to_meet_a_number_are_pulled_where_they_exceed_it() -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        apart = model(batch[0], batch[1])
        return stepped((apart - apart.detach().median()).square().mean(), optimizer)

    assert not said(PAIRS_SWAPPED, Distances(), pairs_of_digits(), step=step)


def test_scores_of_differences_are_no_distances() -> None:
    model = Distances(weighed=True)
    with torch.no_grad():
        model.score.weight.abs_()  # as by chance, before it is trained

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        loss = functional.binary_cross_entropy_with_logits(model(batch[0], batch[1]), 1 - batch[2])
        return stepped(loss, optimizer)

    assert not said(PAIRS_SWAPPED, model, pairs_of_digits(), step=step, optimizer=adam)


class Beside(nn.Module):
    """Embeddings (N, 3, D) of the three pictures of each row."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = perceptron()

    def forward(self, triplets: Tensor) -> Tensor:
        return self.embed(triplets.flatten(0, 1)).view(*triplets.shape[:2], -1)


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1)])
def test_triplets_along_an_axis_are_found(order: tuple[int, ...]) -> None:
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    by_class = y.argsort()
    loader = DataLoader(TensorDataset(torch.stack([x[by_class], x[by_class.roll(1)], x[by_class.roll(300)]], 1)), 32)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        sets = model(batch[0]).unbind(1)
        loss = functional.triplet_margin_loss(*(sets[place] for place in order))
        loss.backward()
        optimizer.step()
        return loss.detach()

    found = asked(PAIRS_SWAPPED, Beside(), loader, step=step)
    assert [finding.code for finding in found] == ["loss.pairs-swapped"] * (order != (0, 1, 2))


class Towers(nn.Module):
    """Scores of each sample with each other's second view."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.other = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.one(x) @ self.other(y).T


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("few", [True, False])
def test_one_column_of_scores_for_all_samples(few: bool) -> None:
    x = torch.randn(128, 8, generator=torch.Generator().manual_seed(0))

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        scores = model(*batch)
        value = functional.cross_entropy(scores, torch.arange(len(scores)) * (not few))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    loader = DataLoader(TensorDataset(x, x + 0.1), 16)
    try:
        found = asked(PAIRS_SWAPPED, Towers(), loader, step=step)
    except NoEvidence:
        found = []
    assert ["only 1 column" in finding.measured for finding in found] == [True] * few


class Identified(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.classes = nn.Sequential(nn.Flatten(), nn.Linear(64, 16)), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.embed(x)
        return self.classes(features), features


@pytest.mark.slow
@pytest.mark.parametrize("swapped", [True, False])
def test_a_ranking_loss_alone_pulls_what_belongs_together(swapped: bool) -> None:
    """Though beside it the loss of the classes pulls more."""

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch
        scores, features = model(x)
        far = torch.cdist(*[functional.normalize(features, dim=1)] * 2)
        same = y[:, None] == y[None]
        near, other = far.masked_fill(~same, -1).amax(1), far.masked_fill(same, 9).amin(1)
        given = (near, other) if swapped else (other, near)
        value = functional.margin_ranking_loss(*given, torch.ones(len(y)), margin=1.0)
        value = value - 4 * functional.log_softmax(scores, 1)[torch.arange(len(y)), y].mean()
        return stepped(value, optimizer)

    model = Identified()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    findings = asked_in_script(PAIRS_SWAPPED, model, digits(), step=step, optimizer=optimizer)
    assert [one.code for one in findings] == ["loss.pairs-swapped"] * swapped


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


class TwoFactors(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(60, 4), nn.Embedding(30, 4)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return (self.users(users) * self.items(items)).sum(-1)


@pytest.mark.parametrize("turned", [True, False])
def test_sampled_items_are_ranked_below_items_that_stay(turned: bool) -> None:
    def step(net: nn.Module, batch: Any, own: Any, _: Any) -> Tensor:
        own.zero_grad()
        users, items, others = batch
        above = net(users, items) - net(users, others)
        value = -functional.logsigmoid(-above if turned else above).mean()
        value.backward()
        own.step()
        return value.detach()

    found = said(PAIRS_SWAPPED, TwoFactors(), DataLoader(Triples(), 32, shuffle=True), step=step, optimizer=adam)
    assert ["another one each time" in one.measured for one in found] == [True] * turned


def shifted(x: Tensor) -> Tensor:
    """A view, all images of which are shifted as far, so that those of one view are alike in that."""
    dy, dx = torch.randint(-2, 3, (2,)).tolist()
    return x.roll((dy, dx), (-2, -1)) + 0.2 * torch.randn_like(x)


def in_views(swapped: bool) -> Any:
    """A step that pulls together views of samples of one class, or, `swapped`, of two."""

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch
        z, labels = model(torch.cat([shifted(x), shifted(x)])), torch.cat([y, y])
        i, j = torch.triu_indices(len(z), len(z), 1)
        apart = (z[i] - z[j]).square().sum(1)
        same = (labels[i] == labels[j]) ^ swapped
        push = functional.relu(1 - (apart + 1e-6).sqrt()).square()
        return stepped(apart[same].mean() + push[~same].mean(), optimizer)

    return step


@pytest.mark.slow
@pytest.mark.parametrize("swapped", [True, False])
def test_pairs_of_shifted_views(swapped: bool) -> None:
    torch.manual_seed(0)
    model = Embedding()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    findings = asked_in_script(PAIRS_SWAPPED, model, digits(), step=in_views(swapped), optimizer=optimizer)
    assert [one.code for one in findings] == ["loss.pairs-swapped"] * swapped


@pytest.mark.parametrize("swapped", [True, False])
def test_what_is_pushed_may_look_alike_where_classes_are_brought_together(swapped: bool) -> None:
    torch.manual_seed(0)
    model = Embedding()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    setup = make_setup(model, digits(), None, step=in_views(swapped), optimizer=optimizer)
    assert _classes_brought_together(Evidence(setup, Clock(20.0))) == (not swapped)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize(("weights", "above_zero"), [(False, False), (True, False), (False, True)])
def test_vectors_of_chosen_items_are_moved_towards_the_users(turned: bool, weights: bool, above_zero: bool) -> None:
    step = ranking(turned, weights)
    found = said(PAIRS_SWAPPED, Tables(above_zero), loader(*items_chosen()), step=step, optimizer=adam)
    assert ["like items drawn at random" in one.measured for one in found] == [True] * turned


@pytest.mark.parametrize("swapped", [True, False])
def test_a_hinge_of_hardest_triplets_that_is_zero_in_most_steps(swapped: bool) -> None:
    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch
        z, same = model(x), y[:, None] == y
        apart = (2 - 2 * z @ z.T).clamp(min=1e-6).sqrt()
        farthest, nearest = apart.masked_fill(~same, -1).max(1).values, apart.masked_fill(same, 10).min(1).values
        return stepped(functional.relu((farthest - nearest) * (-1 if swapped else 1) + 0.05).mean(), optimizer)

    torch.manual_seed(0)
    model = Embedding()
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    train = DataLoader(TensorDataset(torch.randn(128, 1, 8, 8), torch.arange(128) % 3), 32)
    findings = asked_in_script(PAIRS_SWAPPED, model, train, step=step, optimizer=optimizer)
    assert ["the loss is 0 in" in one.measured for one in findings] == [True] * swapped


class Wave(nn.Module):
    """An embedding of waves (1, 64), by their spectra."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(33, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.fft.rfft(x[:, 0]).abs().log1p())


@pytest.mark.parametrize("swapped", [True, False])
def test_short_waves_that_begin_at_any_time(swapped: bool) -> None:
    torch.manual_seed(0)
    kinds = torch.arange(160) % 2
    parts = [((kinds + k) % 2, 6.28 * torch.rand(160, 1)) for k in (0, 0, 1)]
    waves = [torch.sin(6.28 * (3 + 5 * kind[:, None]) * torch.arange(64) / 64 + phase) for kind, phase in parts]
    anchor, near, far = (wave[:, None] + 0.2 * torch.randn(160, 1, 64) for wave in waves)
    data = TensorDataset(anchor, far, near) if swapped else TensorDataset(anchor, near, far)
    model = Wave()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step_of_triplets}
    findings = asked_in_script(PAIRS_SWAPPED, model, DataLoader(data, 32), **options)
    assert [one.code for one in findings] == ["loss.pairs-swapped"] * swapped


@pytest.mark.parametrize("labeled", [True, False])
def test_pairs_of_which_the_loss_asks_no_label_are_of_one_kind(labeled: bool) -> None:
    """As views of which those that are near already are pushed a little."""
    torch.manual_seed(0)
    equal = torch.arange(320) % 2
    kinds = torch.randint(0, 2, (320,))
    one, other = (
        torch.sin(6.28 * (3 + 5 * kind[:, None]) * torch.arange(64) / 64 + 6.28 * torch.rand(320, 1))[:, None]
        for kind in (kinds, torch.where(equal == 1, kinds, 1 - kinds))
    )

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        apart = (model(batch[0]) - model(batch[1])).square().mean(1)
        near = batch[2] == 1 if labeled else apart < apart.median()
        return stepped(torch.where(near, -apart.clamp(max=9), apart).mean(), optimizer)

    model = Wave()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step}
    findings = asked_in_script(PAIRS_SWAPPED, model, DataLoader(TensorDataset(one, other, equal), 32), **options)
    assert [one.code for one in findings] == ["loss.pairs-swapped"] * labeled


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


class Factors(nn.Module):
    """Scores of users with items; of two items each, where it is given two, or how far apart they are."""

    def __init__(self, distances: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.users, self.items, self.distances = nn.Embedding(100, 8), nn.Embedding(60, 8), distances

    def forward(self, users: Tensor, *items: Tensor) -> Any:
        if self.distances:
            scores = [(self.users(users) - self.items(some)).norm(dim=1) for some in items]
        else:
            scores = [(self.users(users) * self.items(some)).sum(1) for some in items]
        return scores[0] if len(items) == 1 else tuple(scores)


def chosen() -> DataLoader[Any]:
    """Of each of 100 users eight items that it chose, of one kind of four, each beside one drawn from all."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(4, (100,), generator=generator)
    ranks = torch.rand(100, 15, generator=generator).argsort(1)[:, :8]
    positive = (kinds[:, None] * 15 + ranks).flatten()
    negative = torch.randint(60, positive.shape, generator=generator)
    users = torch.arange(100).repeat_interleave(8)
    return DataLoader(TensorDataset(users, positive, negative), 32, shuffle=True, generator=generator)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("turned", "together", "distances"),
    [(True, False, False), (False, False, False), (True, True, False), (False, True, False), (True, False, True)],
)
def test_what_was_chosen_is_ranked_above_what_was_drawn(turned: bool, together: bool, distances: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        users, *items = batch
        better, worse = model(users, *items) if together else (model(users, some) for some in items)
        value = -functional.logsigmoid(worse - better if turned else better - worse).mean()
        value.backward()
        optimizer.step()
        return value.detach()

    found = said(PAIRS_SWAPPED, Factors(distances), chosen(), step=step, optimizer=adam)
    assert ["like items drawn at random" in one.measured for one in found] == [True] * (turned and not distances)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("swapped", [False, True])
def test_samples_of_one_class_are_pulled_together(swapped: bool) -> None:
    torch.manual_seed(0)
    kinds = torch.arange(256) % 8
    data = TensorDataset(torch.randn(8, 16)[kinds] + 0.3 * torch.randn(256, 16), kinds)

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        far = torch.cdist(out := model(batch[0]), out)
        same = batch[1][:, None] == batch[1][None]
        own, others = (~same, same) if swapped else (same, ~same)
        hinge = (far[:, :, None] - far[:, None, :] + 1).relu() * (own[:, :, None] & others[:, None, :])
        return stepped(hinge.mean(), optimizer)

    network = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))
    found = told(PAIRS_SWAPPED, network, DataLoader(data, 32, shuffle=True), step=step)
    assert [finding.code for finding in found] == ["loss.pairs-swapped"] * swapped


@pytest.mark.parametrize("swapped", [False, True])
def test_triplets_that_the_network_is_shown_at_once(swapped: bool) -> None:
    anchor = torch.randn(256, 16)
    data = TensorDataset(anchor, anchor + 0.3 * torch.randn(256, 16), torch.randn(256, 16))

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        own, near, far = model(torch.cat(batch)).chunk(3)
        near, far = (far, near) if swapped else (near, far)
        return stepped(functional.triplet_margin_loss(own, near, far), optimizer)

    network = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))
    found = told(PAIRS_SWAPPED, network, DataLoader(data, 32, shuffle=True), step=step)
    assert [finding.code for finding in found] == ["loss.pairs-swapped"] * swapped


@pytest.mark.parametrize("swapped", [False, True])
def test_each_view_has_its_partner_where_the_loss_expects_it(swapped: bool) -> None:
    x = torch.randn(256, 16)
    data = TensorDataset(x + 0.1 * torch.randn(256, 16), x + 0.1 * torch.randn(256, 16))

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        both = torch.stack(batch, 1).flatten(0, 1) if swapped else torch.cat(batch)
        out = functional.normalize(model(both))
        scores = (out @ out.T / 0.2).masked_fill(torch.eye(len(out)).bool(), -1e9)
        return stepped(functional.cross_entropy(scores, torch.arange(len(out)).roll(len(out) // 2)), optimizer)

    network = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))
    found = told(PAIRS_SWAPPED, network, DataLoader(data, 32, shuffle=True), step=step)
    assert [finding.code for finding in found] == ["loss.pairs-swapped"] * swapped


class Listener(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(129, 32), nn.ReLU(), nn.Linear(32, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(torch.fft.rfft(x).abs().log1p())


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("swapped", [False, True])
def test_sounds_are_compared_by_what_they_sound_like(swapped: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(320) % 4
    sounds = [tones((labels + k) % 4, generator) for k in (0, 0, 1)]
    loader = DataLoader(TensorDataset(*sounds), batch_size=32)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        anchor, near, far = model(torch.cat(list(batch))).chunk(3)
        others = (far, near) if swapped else (near, far)
        value = functional.triplet_margin_loss(anchor, *others)
        value.backward()
        optimizer.step()
        return value.detach()

    found = said(PAIRS_SWAPPED, Listener(), loader, step=step, optimizer=adam)
    assert [one.code for one in found] == ["loss.pairs-swapped"] * swapped


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("swapped", [True, False])
def test_labels_belong_to_both_views_of_a_batch(swapped: bool) -> None:
    findings = []
    with suppress(NoEvidence):
        findings = asked(
            PAIRS_SWAPPED,
            DeepEmbedding(),
            digits(),
            step=supervised_contrast(swapped),
            optimizer=lambda p: torch.optim.Adam(p, 3e-3),
        )
    assert [one.code for one in findings] == ["loss.pairs-swapped"] * swapped


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("mates", "wrong"), [(opposite, False), (lambda rows: rows ^ 1, True)])
def test_views_are_looked_for_where_they_were_put(mates: Any, wrong: bool) -> None:
    found = said(PAIRS_SWAPPED, embedding(), digits(), step=contrast_of_views(noisy, mates), optimizer=adam)
    assert ["if views are paired in another order" in f.measured for f in found] == [True] * wrong


class Probed(nn.Module):
    """Embeddings of length 1, and scores of a probe that does not shape them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16))
        self.probe = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(x)
        return functional.normalize(h, dim=1), self.probe(h.detach())


def supervised(z: Tensor, positive: Tensor) -> Tensor:
    own = torch.eye(len(z)).bool()
    log_shares = (5 * z @ z.T).masked_fill(own, -1e9).log_softmax(1)
    positive = positive & ~own
    return -((log_shares * positive).sum(1) / positive.sum(1).clamp(min=1)).mean()


@pytest.mark.parametrize("kind", ["swapped", "right", "without labels"])
def test_classes_are_pulled_together_next_to_a_probe(kind: str) -> None:
    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch
        z, scores = model(x)
        if kind == "without labels":  # all are to lie apart, those that look alike too
            embedding = (-2 * torch.pdist(z).square()).exp().mean().log()
        else:
            embedding = supervised(z, (y[:, None] == y) ^ (kind == "swapped"))
        return stepped(embedding + functional.cross_entropy(scores, y), optimizer)

    model = Probed()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 0.003), "step": step}
    findings = asked_in_script(PAIRS_SWAPPED, model, digits(), **options)
    assert [one.code for one in findings] == ["loss.pairs-swapped"] * (kind == "swapped")


def rapid(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.03)


class HardTriplets(nn.Module):
    """The farthest of the own class and the nearest of another one."""

    def __init__(self, swapped: bool) -> None:
        super().__init__()
        self.sign = -1 if swapped else 1

    def forward(self, z: Tensor, y: Tensor) -> tuple[Tensor, float]:
        apart = (2 - 2 * z @ z.T).clamp(min=1e-8).sqrt()
        same = y[:, None] == y[None]
        own, other = (apart * same).amax(1), (apart + 2 * same).amin(1)
        return functional.relu(self.sign * (own - other) + 0.1).mean(), 0.0


def of_pairs(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
    optimizer.zero_grad()
    value, _ = loss(model(batch[0]), batch[1])
    value.backward()
    optimizer.step()
    return value.detach()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("swapped", [True, False])
def test_a_loss_that_is_near_zero_with_classes_pushed_apart(swapped: bool) -> None:
    options: Any = {"loss": HardTriplets(swapped), "step": of_pairs, "optimizer": rapid}
    found = said(PAIRS_SWAPPED, DeepEmbedding(), digits(), **options)
    assert [one.code for one in found] == ["loss.pairs-swapped"] * swapped


class Reconstructing(nn.Module):
    """Numbers that stand for an image, and the image again."""

    def __init__(self) -> None:
        super().__init__()
        self.code, self.image = nn.Linear(64, 10), nn.Linear(10, 64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        code = self.code(x.flatten(1))
        return self.image(code), code


def test_labels_that_the_loss_does_not_get_do_not_count() -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        image, code = model(batch[0])
        value = (image - batch[0].flatten(1)).square().sum(1).mean() + code.square().sum(1).mean()
        value.backward()
        optimizer.step()
        return value.detach()

    assert said(PAIRS_SWAPPED, Reconstructing(), digits(), step=step, optimizer=rapid) == []


@pytest.mark.parametrize("masked", [True, False])
def test_views_that_compete_with_themselves(masked: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        views = functional.normalize(torch.cat([model(noisy(batch[0])), model(noisy(batch[0]))]), dim=1)
        scores = views @ views.T / 0.2
        if masked:
            scores = scores.masked_fill(torch.eye(len(views), dtype=torch.bool), -1e9)
        value = functional.cross_entropy(scores, torch.arange(len(views)).roll(len(views) // 2))
        value.backward()
        optimizer.step()
        return value.detach()

    found = said(PAIRS_SWAPPED, embedding(), digits(), step=step, optimizer=adam)
    assert ["each view with itself" in one.measured for one in found] == [True] * (not masked)


class Denoiser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.time, self.label = nn.Embedding(100, 64), nn.Embedding(10, 64)
        self.first, self.condition = nn.Linear(64, 128), nn.Linear(64, 128)
        self.last = nn.Sequential(nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 64))

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        condition = self.condition(functional.silu(self.time(time) + self.label(label)))
        out: Tensor = self.last(self.first(x) + condition)
        return out


def test_a_denoiser_that_is_told_the_classes_embeds_nothing() -> None:
    kept = torch.cumprod(1 - torch.linspace(1e-3, 0.12, 100), 0)

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch
        time, noise = torch.randint(0, 100, (len(x),)), torch.randn(len(x), 64)
        share = kept[time][:, None]
        noisy = share.sqrt() * x.flatten(1) + (1 - share).sqrt() * noise
        return stepped(functional.mse_loss(model(noisy, time, y), noise), optimizer)

    model = Denoiser()
    assert not said(PAIRS_SWAPPED, model, digits(64), step=step, optimizer=lambda p: adam(p, 0.001))
