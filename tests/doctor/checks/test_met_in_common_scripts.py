"""Faults of common scripts, and their twins: names of loaders, codes, colors, copies, attention, decays."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from asked import asked, digits, perceptron
from test_source_checks import SCRIPT, found, values
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.inputs.scrambled import SCRAMBLED
from striate.doctor.checks.data.shift.shifted_tables import SHIFTED_TABLES
from striate.doctor.checks.data.splits.repeated_samples import DUPLICATES, LEAK
from striate.doctor.checks.data.splits.split_overlap import SPLIT_OVERLAP
from striate.doctor.checks.eval.modes import MODE as EVAL_MODE
from striate.doctor.checks.eval.ranked_by_batch import RANKED_BY_BATCH
from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.checks.fit.stagnation import CANNOT_OVERFIT_BATCH
from striate.doctor.checks.loss.degenerate.degenerate import DEGENERATE
from striate.doctor.checks.loss.degenerate.endless import _are_one_number
from striate.doctor.checks.model.batch_dependence import BATCH_MIXING
from striate.doctor.checks.model.no_nonlinearity import NO_NONLINEARITY
from striate.doctor.checks.optim.weight_decay_too_high import WEIGHT_DECAY_TOO_HIGH
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.functions import check_function
from striate.doctor.script.validation_data import find_validation
from striate.records import Finding

LOSS = nn.CrossEntropyLoss()


def said(check: Check, model: nn.Module, train: Any, **options: Any) -> list[Finding]:
    with suppress(NoEvidence):
        return asked(check, model, train, **options)
    return []


def loader(seed: int, count: int = 40) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(TensorDataset(torch.randn(count, 3, generator=generator), torch.zeros(count)), 8)


def seen_from(names: dict[str, Any], batches: Any) -> Any:
    frame = SimpleNamespace(f_locals=names, f_globals={}, f_code=(lambda: None).__code__)
    loop = SimpleNamespace(batches=batches)
    return find_validation(loop, [frame], None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["testloader", "valloader", "valid_dl", "test_loader"])
def test_a_loader_named_like_that_of_training_is_validation(name: str) -> None:
    train, other = loader(0), loader(1)
    training = name.replace("test", "train").replace("valid", "train").replace("val", "train")
    assert seen_from({training: train, name: other}, train) is other


def test_loaders_of_a_training_to_come_may_stand_in_a_dictionary() -> None:
    train, later, other = loader(0), loader(1), loader(2)
    assert seen_from({"source": train, "loaders": {"train": later, "val": other}}, train) is not other
    assert seen_from({"loaders": {"train": train, "val": other}}, train) is other


def test_data_for_development_that_hold_training_come_behind_validation() -> None:
    x, y = torch.randn(60, 3), torch.zeros(60)
    names = {"x_dev": x, "y_dev": y, "x_val_t": x[:20].clone(), "y_val_t": y[:20].clone()}
    found = seen_from(names, loader(0))
    assert found.dataset.tensors[0] is names["x_val_t"]


def sold(*, anew: bool) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Shops by number, each with its chance of a sale; `anew`: numbered otherwise for validation."""
    generator = torch.Generator().manual_seed(0)
    chance = torch.rand(20, generator=generator)
    shop = torch.randint(0, 20, (1200, 1), generator=generator)
    y = (torch.rand(1200, generator=generator) < chance[shop[:, 0]]).float()
    codes = torch.where(torch.arange(1200)[:, None] >= 800, torch.randperm(20, generator=generator)[shop], shop)
    x = codes if anew else shop
    sets = TensorDataset(x[:800], y[:800]), TensorDataset(x[800:], y[800:])
    return DataLoader(sets[0], 32, shuffle=True, generator=generator), DataLoader(sets[1], 100)


class Shops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.chance = nn.Embedding(20, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.chance(x).flatten()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("anew", [True, False])
def test_codes_stand_for_the_same_on_both_sides(anew: bool) -> None:
    train, val = sold(anew=anew)
    told = said(SHIFTED_TABLES, Shops(), train, val=val, loss=nn.BCEWithLogitsLoss())
    assert [finding.code for finding in told] == ["data.shift"] * anew


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("scrambled", [True, False])
def test_colors_side_by_side_are_seen_in_noise(scrambled: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    tint = functional.interpolate(torch.randn(64, 3, 3, 3, generator=generator), size=18, mode="bilinear")
    x = 0.5 * tint + torch.randn(64, 3, 18, 18, generator=generator)
    if scrambled:
        x = x.permute(0, 2, 3, 1).contiguous().view(64, 3, 18, 18)
    data = DataLoader(TensorDataset(x, torch.arange(64) % 2), 64)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    assert [finding.code for finding in said(SCRAMBLED, model, data, loss=LOSS)] == ["data.scrambled"] * scrambled


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


class Patches(nn.Module):
    """Rows of a picture as a sequence behind a token of its own, whose answer alone is read."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.cat([self.token.expand(len(x), 1, 8), x[:, 0]], 1)
        return self.head(self.attention(rows, rows, rows)[0][:, 0])


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_runs_along_positions(batch_first: bool) -> None:
    told = said(BATCH_MIXING, Patches(batch_first), digits(), loss=LOSS)
    assert [finding.code for finding in told] == ["model.batch-mixing"] * (not batch_first)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("kind", "decay", "high"),
    [(torch.optim.Adam, 0.1, True), (torch.optim.Adam, 1e-4, False), (torch.optim.AdamW, 0.1, False)],
)
def test_the_decay_of_adamw_is_too_high_for_adam(kind: Any, decay: float, high: bool) -> None:
    model = perceptron()
    optimizer = kind(model.parameters(), lr=1e-3, weight_decay=decay)
    told = said(WEIGHT_DECAY_TOO_HIGH, model, digits(), loss=LOSS, optimizer=optimizer)
    assert [finding.code for finding in told] == ["optim.weight-decay-too-high"] * high


class Signs(torch.autograd.Function):
    """Signs times a scale of each row, whose gradient passes straight through."""

    @staticmethod
    def forward(_: Any, w: Tensor) -> Tensor:
        return torch.where(w >= 0, 1.0, -1.0) * w.abs().mean(1, keepdim=True)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return gradient


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, w: Tensor) -> Tensor:
        return 2 * w

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return gradient


@pytest.mark.parametrize(("function", "meant"), [(Signs, True), (Doubled, False)])
def test_a_gradient_of_choice_is_known_by_what_it_rounds(function: Any, meant: bool) -> None:
    checked = check_function(function, (torch.randn(4, 40, generator=torch.Generator().manual_seed(0)),))
    assert checked.wrong
    assert checked.meant is meant


@pytest.mark.parametrize(("values_", "mask"), [([-1e9] * 8, True), ([-2e4 * n for n in range(1, 9)], False)])
def test_a_mask_is_one_number(values_: list[float], mask: bool) -> None:
    assert _are_one_number(torch.tensor(values_)) is mask


def test_sigmoids_between_layers_bend_though_the_last_one_is_a_sigmoid_too() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Sigmoid(), nn.Linear(32, 16), nn.Sigmoid())
    model.extend([nn.Linear(16, 1), nn.Sigmoid()])
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    data = DataLoader(TensorDataset(x, (y[:, None] > 4).float()), 32, shuffle=True)
    assert not said(NO_NONLINEARITY, model, data, loss=nn.BCELoss())
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Linear(32, 16), nn.Linear(16, 1), nn.Sigmoid())
    assert said(NO_NONLINEARITY, linear, data, loss=nn.BCELoss())


def test_rare_rows_drawn_again_are_seen_in_a_part_of_the_data() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(9000, 6, generator=generator)
    again = torch.randint(0, 900, (8100,), generator=generator)
    data = TensorDataset(torch.cat([x[900:], x[again]]), torch.arange(16200) // 8100)
    told = said(DUPLICATES, nn.Linear(6, 2), DataLoader(data, 32, shuffle=True, generator=generator), loss=LOSS)
    assert [finding.severity for finding in told] == ["note"]


def test_the_training_loop_counts_the_samples_of_its_batches() -> None:
    text = SCRIPT.replace(
        "        optimizer.zero_grad()\n        loss",
        "        optimizer.zero_grad()\n        hits += (model(x).argmax(1) == y).sum()\n"
        "        seen += len(y)\n        loss",
    )
    text = text.replace("    model.eval()\n", "    print(hits / seen)\n    model.eval()\n")
    x, y = digits(most=650).dataset.tensors  # type: ignore[attr-defined]
    names = values() | {"loader": DataLoader(TensorDataset(x, y), 32, shuffle=True), "y": y[:32], "x": x[:32]}
    assert not found(text, names, [WRONG_COUNT])


LEARNER = """
def one_epoch(loader, train):
    model.train({mode})
    with torch.set_grad_enabled(train):
        results = [criterion(model(x), y) for x, y in loader]
for x, y in loader:
    criterion(model(x), y).backward()
one_epoch(val_loader, False)
"""


@pytest.mark.parametrize(("mode", "wrong"), [("", True), ("train", False)])
def test_one_function_that_trains_and_evaluates_switches_the_mode(mode: str, wrong: bool) -> None:
    assert list(found(LEARNER.format(mode=mode), values(), [EVAL_MODE])) == ["eval.mode"] * wrong


METRIC = """
class MacroF1:
    def accumulate(self, out, y):
        self.told.append(out.argmax(1))
        self.true.append(y)
    def value(self):
        {value}
for x, y in loader:
    pass
"""


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("scores = [f1_score(t, p) for t, p in zip(self.true, self.told)]\n        return np.mean(scores)", True),
        ("return f1_score(np.concatenate(self.true), np.concatenate(self.told))", False),
    ],
)
def test_lists_that_batches_were_added_to_are_joined_first(value: str, wrong: bool) -> None:
    assert list(found(METRIC.format(value=value), values(), [RANKED_BY_BATCH])) == ["eval.batch-means"] * wrong


def test_the_ends_of_two_ranges_are_no_positions() -> None:
    assert not found(SCRIPT, values() | {"train_split": (0, 1100), "val_split": (1100, 1400)}, [SPLIT_OVERLAP])
    shared = {"train_split": list(range(50)), "val_split": list(range(40, 60))}
    assert list(found(SCRIPT, values() | shared, [SPLIT_OVERLAP])) == ["data.split-overlap"]


class Apart(nn.Module):
    """How far the halves of a row are apart."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return functional.pairwise_distance(self.embed(x[:, :8]), self.embed(x[:, 8:]))


def contrastive(distance: Tensor, same: Tensor) -> Tensor:
    return (same * distance**2 + (1 - same) * functional.relu(2 - distance) ** 2).mean()


def test_distances_answer_neither_yes_nor_no() -> None:
    generator = torch.Generator().manual_seed(0)
    one, noise = torch.randn(600, 8, generator=generator), torch.randn(600, 8, generator=generator)
    same = (torch.arange(600) % 2).float()
    other = torch.where(same[:, None] > 0, one + 0.3 * noise, noise)
    data = DataLoader(TensorDataset(torch.cat([one, other], 1), same), 50, shuffle=True, generator=generator)
    for check in (DEGENERATE, CANNOT_OVERFIT_BATCH):
        assert not said(check, Apart(), data, loss=contrastive)
