"""Training beside validation: copies, other preparation, other numbers of classes."""

from __future__ import annotations

import ast
from collections.abc import Callable
from contextlib import suppress

import pytest
import torch
from asked import asked, perceptron
from asked import digits as loader_of_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, SubsetRandomSampler, TensorDataset, WeightedRandomSampler

from striate.doctor.checks.data.labels.class_balance import IMBALANCE
from striate.doctor.checks.data.labels.label_numbers import LABEL_MAP
from striate.doctor.checks.data.labels.too_few import TOO_FEW
from striate.doctor.checks.data.shift.shift import SHIFT
from striate.doctor.checks.data.splits.repeated_samples import DUPLICATES, LEAK
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.setup.script_source import ScriptSource

Pair = tuple[Tensor, Tensor]


def parts() -> tuple[Pair, Pair]:
    x, y = loader_of_digits(most=900).dataset.tensors  # type: ignore[attr-defined]
    return (x[:640], y[:640]), (x[640:], y[640:])


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 16, 10))


def fast(parameters: object) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=5e-3)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.each_nth(2)
@pytest.mark.parametrize("clients", [1, 5])
def test_a_client_of_several_has_few_samples_of_a_class(clients: int) -> None:
    (x, y), val = parts()
    own = torch.cat([torch.nonzero(y == 0)[:40].flatten(), *(torch.nonzero(y == k)[:3].flatten() for k in range(1, 6))])
    shares = [own, *torch.arange(len(x)).chunk(clients)][:clients]
    loaders = [DataLoader(TensorDataset(x[share], y[share]), 16, shuffle=True) for share in shares]
    code = ast.parse("for x, y in loader:\n    pass\n")
    source = ScriptSource({"train.py": code}, {"loaders": loaders}, ("train.py", 1, 2), None)
    found = []
    for check in (TOO_FEW, IMBALANCE):
        with suppress(NoEvidence):
            found += asked(check, network(), loaders[0], val=val, source=source)
    assert [one.code for one in found] == ["data.too-few", "data.imbalance"] * (clients == 1)


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


def test_two_inputs_are_not_judged_by_the_second_where_no_name_says_which_is_the_target() -> None:
    """Pictures and their captions, of which there are few."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pictures, self.words = nn.Linear(64, 8), nn.Embedding(6, 8)

        def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
            return self.pictures(image.flatten(1)) @ self.words(tokens).mean(1).T

    def step(model: nn.Module, batch: dict[str, Tensor], optimizer: torch.optim.Optimizer, _: object) -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch["image"], batch["tokens"]), torch.arange(len(batch["image"])))
        loss.backward()
        optimizer.step()
        return loss.detach()

    (x, y), _ = parts()
    rows = [
        {"image": image, "tokens": torch.tensor([0, 1 + k % 5]), "concept": label}
        for k, (image, label) in enumerate(zip(x, y, strict=True))
    ]
    with pytest.raises(NoEvidence, match="several inputs"):
        asked(DUPLICATES, Both(), DataLoader(rows, 32), step=step)  # type: ignore[arg-type]


def test_separate_parts_share_nothing() -> None:
    train, val = parts()
    assert not asked(LEAK, perceptron(), train, val=val)
    assert not asked(DUPLICATES, perceptron(), train, val=val)


def test_equal_images_are_counted_and_shown() -> None:
    train, val = parts()
    both = torch.cat([train[0][:30], val[0]]), torch.cat([train[1][:30], val[1]])
    (finding,) = asked(LEAK, perceptron(), train, val=both)
    assert finding.severity == "error"
    assert "30 of 290 validation samples are equal to a training sample" in finding.measured
    assert "validation sample 0 and training sample" in finding.measured


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("again", "alike"),
    [
        (
            lambda x: x + 0.03 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)),
            "nearly the same as a training sample",
        ),
        (lambda x: 1.2 * x - 0.1, "a training sample but for brightness and contrast"),
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


def test_a_list_read_four_times() -> None:
    (x, y), _ = parts()
    (finding,) = asked(DUPLICATES, perceptron(), (x[:150].repeat(4, 1, 1, 1), y[:150].repeat(4)))
    assert finding.severity == "error"
    assert "450 of 600 samples are copies of others: 150 different ones, the commonest 4 times" in finding.measured


def test_what_a_sampler_draws_again_is_no_copy() -> None:
    (x, y), _ = parts()
    weights = (1 / torch.bincount(y).double())[y]
    sampler = WeightedRandomSampler(weights.tolist(), len(y))
    assert not asked(DUPLICATES, perceptron(), DataLoader(TensorDataset(x, y), 32, sampler=sampler))
    twice = TensorDataset(x[:200].repeat(3, 1, 1, 1), y[:200].repeat(3))
    assert asked(DUPLICATES, perceptron(), DataLoader(twice, 32, sampler=sampler_of(len(twice))))


def sampler_of(count: int) -> WeightedRandomSampler:
    return WeightedRandomSampler([1.0] * count, count)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda x: x / 255, "scale or offset"),
        (lambda x: 0.2 * x + 3, "scale or offset"),
        (lambda x: -x, "scale or offset"),
        (lambda x: x.transpose(2, 3).contiguous(), "rows and columns exchanged"),
        (lambda x: x.flip(2), "top and bottom exchanged"),
    ],
    ids=["divided", "not standardized", "inverted", "transposed", "upside down"],
)
def test_validation_prepared_otherwise(spoil: Callable[[Tensor], Tensor], what: str) -> None:
    train, (x, y) = parts()
    found = asked(SHIFT, network(), train, val=(spoil(x), y), optimizer=fast)
    assert [finding.code for finding in found] == ["data.shift"]
    if what != "scale or offset":
        assert what in found[0].measured
    assert not asked(SHIFT, network(), train, val=(x, y), optimizer=fast)


@pytest.mark.parametrize("own", [False, True])
def test_words_that_each_split_numbers_for_itself(own: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(600) % 4
    x = (torch.randint(0, 40, (600, 1), generator=generator) + torch.arange(12)) % 40
    x[:, [3, 7]] = 40 + y[:, None]
    numbers = torch.randperm(44, generator=generator)
    torch.manual_seed(0)
    words = nn.Sequential(nn.EmbeddingBag(44, 16), nn.Linear(16, 4))
    val = (numbers[x[400:]] if own else x[400:], y[400:])
    found = asked(SHIFT, words, DataLoader(TensorDataset(x[:400], y[:400]), 32), val=val, optimizer=fast)
    assert [finding.code for finding in found] == ["data.shift"] * own
    assert all("tokens" in finding.measured for finding in found)


def test_inputs_that_the_network_refuses() -> None:
    train, (x, y) = parts()
    (finding,) = asked(SHIFT, network(), train, val=(x.double(), y))
    assert finding.severity == "error"
    assert "float64" in finding.measured


@pytest.mark.slow
def test_inputs_of_other_axes_in_a_script_are_those_of_another_network() -> None:
    train, (x, y) = parts()
    source = ScriptSource({}, {}, ("script.py", 1, 2), None)
    assert asked(SHIFT, network(), train, val=(x.flatten(1)[:, :30], y))
    with pytest.raises(NoEvidence, match="another network"):
        asked(SHIFT, network(), train, val=(x.flatten(1)[:, :30], y), source=source)


def test_overfitting_is_no_shift() -> None:
    (x, y), val = parts()
    few = torch.optim.Adam
    assert not asked(SHIFT, perceptron(256), (x[:60], y[:60]), val=val, optimizer=lambda p: few(p, lr=1e-2))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("order", [[0, 1, 5, 3, 4, 2, 6, 7, 8, 9], [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]], ids=str)
def test_validation_with_classes_in_another_order(order: list[int]) -> None:
    train, (x, y) = parts()
    (finding,) = asked(LABEL_MAP, network(), train, val=(x, torch.tensor(order)[y]), optimizer=fast)
    assert f"{order[2]} → 2" in finding.measured
    assert "with its classes renumbered" in finding.measured


@pytest.mark.slow
def test_classes_that_look_like_others_are_not_renumbered() -> None:
    train, (x, y) = parts()
    others = (y != 3) & (y != 7)
    looks = torch.cat([x[others], x[y == 5], x[y == 2]])
    labels = torch.cat([y[others], y[y == 5] - 2, y[y == 2] + 5])
    assert not asked(LABEL_MAP, network(), train, val=(looks, labels), optimizer=fast)


def test_images_that_are_far_smoother_are_another_preparation() -> None:
    train, (x, y) = parts()
    middle = x[:, :, 2:6, 2:6].repeat_interleave(2, 2).repeat_interleave(2, 3)
    (finding,) = asked(SHIFT, network(), train, val=(middle, y), optimizer=fast)
    assert finding.code == "data.shift"


@pytest.mark.slow
def test_mistakes_of_a_weak_network_are_no_other_order() -> None:
    train, val = parts()
    assert not asked(LABEL_MAP, network(), train, val=val, optimizer=fast)
    upside_down = val[0].flip(2), val[1]
    assert not asked(LABEL_MAP, network(), train, val=upside_down, optimizer=fast)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("even", [True, False])
def test_rare_classes_that_are_repeated_on_purpose_are_a_note(even: bool) -> None:
    (x, y), _ = parts()
    rows = [(y == k).nonzero().flatten()[: 10 if k else 50] for k in range(4)]
    again = torch.cat([own.repeat(5)[:50] if even else own.repeat(2) for k, own in enumerate(rows)])
    (finding,) = asked(DUPLICATES, perceptron(), DataLoader(TensorDataset(x[again], y[again]), 25, shuffle=True))
    assert (finding.severity == "note") == even
