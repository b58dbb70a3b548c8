"""Views and their mates, distances, tables whose columns hold the target, windows and episodes that come again, counts
that go on, colors turned round; and their twins."""

from __future__ import annotations

import ast
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from asked import asked, digits, perceptron
from test_library_source import found as found_in_library
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.augmentation.augmentation import AUGMENTATION
from striate.doctor.checks.data.labels.step_labels import _number_rows
from striate.doctor.checks.data.moved.targets_moved import LEFT_BEHIND
from striate.doctor.checks.data.shift.shift import SHIFT, _prepared_by_step
from striate.doctor.checks.data.splits.repeated_samples import DUPLICATES
from striate.doctor.checks.data.splits.split_overlap import SPLIT_OVERLAP
from striate.doctor.checks.data.splits.windows_shared import WINDOWS_SHARED
from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.eval.best import WORST_KEPT
from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.checks.loss.degenerate.degenerate import DEGENERATE
from striate.doctor.checks.loss.pairs.pairs_swapped import CHECK as PAIRS_SWAPPED
from striate.doctor.checks.loss.sign.sign import SIGN
from striate.doctor.checks.model.batch_dependence import BATCH_MIXING
from striate.doctor.checks.model.detached_parameters import GRAPH_DETACHED
from striate.doctor.checks.model.evaluates_untrained import CHECK as EVALUATES_UNTRAINED
from striate.doctor.checks.optim.low_precision import LOW_PRECISION
from striate.doctor.checks.reward.recorded import recorded
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.functions import check_function
from striate.doctor.evidence.learning import is_a_part
from striate.doctor.evidence.padding import rows_of
from striate.doctor.evidence.pairs import _stacked, far_apart
from striate.doctor.script import drawn_batches, network_calls
from striate.doctor.script.drawn_batches import drawing
from striate.doctor.setup.library_training import LibraryTraining
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup
from striate.records import Finding


def said(check: Check, model: nn.Module, train: Any, **options: Any) -> list[Finding]:
    with suppress(NoEvidence):
        return asked(check, model, train, **options)
    return []


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.003)


def embedding(numbers: int = 64) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(numbers, 48), nn.ReLU(), nn.Linear(48, 16))


def contrastive(view: Callable[[Tensor], Tensor], mates: Callable[[Tensor], Tensor]) -> Any:
    """A step of SimCLR: two views of each image, each scored with each; `mates` of the row numbers."""

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        views = functional.normalize(torch.cat([model(view(batch[0])), model(view(batch[0]))]), dim=1)
        scores = (views @ views.T / 0.2).masked_fill(torch.eye(len(views), dtype=torch.bool), float("-inf"))
        value = functional.cross_entropy(scores, mates(torch.arange(len(views))))
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def noisy(x: Tensor) -> Tensor:
    return x + 0.3 * torch.randn_like(x)


def of_a_corner(x: Tensor) -> Tensor:
    """All but one pixel, somewhere, is blacked out."""
    place = torch.randint(64, (len(x), 1))
    return x * functional.one_hot(place, 64).reshape(x.shape)


def opposite(rows: Tensor) -> Tensor:
    return rows.roll(len(rows) // 2)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("mates", "wrong"), [(opposite, False), (lambda rows: rows ^ 1, True)])
def test_views_are_looked_for_where_they_were_put(mates: Any, wrong: bool) -> None:
    found = said(PAIRS_SWAPPED, embedding(), digits(), step=contrastive(noisy, mates), optimizer=adam)
    assert ["with views put together in another order" in f.measured for f in found] == [True] * wrong


def test_images_are_near_wherever_they_show_something() -> None:
    image, other = torch.randn(2, 1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert float(far_apart(image, image.roll((2, -1), (2, 3)))) < 1e-5
    assert float(far_apart(image, other)) > 0.3


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1)])
def test_sets_of_a_batch_are_told_in_any_order(order: tuple[int, ...]) -> None:
    sets = torch.randn(3, 4, 5)
    assert _stacked(torch.cat([sets[place] for place in order]), tuple(sets)) == 3
    assert _stacked(torch.randn(12, 5), tuple(sets)) == 1


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("view", "wrong"), [(noisy, False), (of_a_corner, True)])
def test_views_have_something_in_common(view: Any, wrong: bool) -> None:
    options: dict[str, Any] = {"step": contrastive(view, opposite), "optimizer": adam, "val": digits(64, 200)}
    found = said(AUGMENTATION, embedding(), digits(), **options)
    assert ["of a view is one and the same number" in f.measured for f in found] == [True] * wrong
    assert not said(DEGENERATE, embedding(), digits(), **options)


def prototypes(sign: float) -> Any:
    """A step of prototypical networks: half of a batch says where each class is."""

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        outputs, labels = model(batch[0]), batch[1]
        half = len(labels) // 2
        kinds, numbers = labels[:half].unique(return_inverse=True)
        centers = torch.stack([outputs[:half][numbers == n].mean(0) for n in range(len(kinds))])
        known = (labels[half:, None] == kinds).any(1)
        wanted = (labels[half:, None] == kinds).long().argmax(1)[known]
        value = functional.cross_entropy(sign * torch.cdist(outputs[half:][known], centers).square(), wanted)
        value.backward()
        optimizer.step()
        return value.detach()

    return step


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("sign", "wrong"), [(1.0, True), (-1.0, False)])
def test_distances_need_a_minus_before_cross_entropy(sign: float, wrong: bool) -> None:
    found = said(SIGN, embedding(), digits(128), step=prototypes(sign), optimizer=adam)
    assert [f.code for f in found] == ["loss.sign"] * wrong
    assert all("-distances" in f.remedy for f in found)


def table(kind: str) -> DataLoader[Any]:
    """A price that area, age and district make; `made`: beside the price by the area; `product`: two sides alone."""
    generator = torch.Generator().manual_seed(0)
    area, age, near, noise = torch.rand(4, 1000, 1, generator=generator, dtype=torch.float64)
    price = (0.5 + area) * (1.0 + near) - 0.3 * age + 0.1 * noise
    columns = [area, age, near, noise.roll(1, 0)]
    if kind == "made":
        columns.append(price / area)
    if kind == "product":
        price = area * near
    x, y = torch.cat(columns, 1), price
    x, y = ((v - v.mean(0)) / v.std(0) for v in (x, y))
    return DataLoader(TensorDataset(x.float(), y.float()), 50, shuffle=True)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("kind", "wrong"), [("made", True), ("right", False), ("product", False)])
def test_a_column_made_of_the_target_and_another_tells_it(kind: str, wrong: bool) -> None:
    data = table(kind)
    width = data.dataset[0][0].numel()
    model = nn.Sequential(nn.Linear(width, 16), nn.ReLU(), nn.Linear(16, 1))
    found = said(TARGET_IN_INPUT, model, data, loss=nn.MSELoss(), optimizer=adam)
    assert [f.code for f in found] == ["data.target-in-input"] * wrong
    assert all("inputs[:, :4]" in f.remedy for f in found)


@pytest.mark.parametrize(("kind", "wrong"), [("after", True), ("noisy", False)])
def test_a_column_that_is_only_there_once_the_class_is(kind: str, wrong: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 5, generator=generator)
    y = (x[:, 0] + 0.8 * torch.randn(1000, generator=generator) > 0).float()
    after = y * (1 + torch.rand(1000, generator=generator))
    if kind == "noisy":
        after = after * (torch.rand(1000, generator=generator) > 0.05)
    data = DataLoader(TensorDataset(torch.cat([x, after[:, None]], 1), y[:, None]), 50, shuffle=True)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
    found = said(TARGET_IN_INPUT, model, data, loss=nn.BCEWithLogitsLoss(), optimizer=adam)
    assert ["by a limit" in f.measured for f in found] == [True] * wrong


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk, self.classes, self.boxes = nn.Linear(64, 32), nn.Linear(32, 10), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.relu(self.trunk(x.flatten(1)))
        return self.classes(hidden), self.boxes(hidden)


@pytest.mark.parametrize("cut", [True, False])
def test_a_loss_that_is_added_as_a_number_goes_nowhere(cut: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        scores, boxes = model(batch[0])
        other = functional.l1_loss(boxes, batch[0].flatten(1)[:, :4])
        value = functional.cross_entropy(scores, batch[1]) + (other.item() if cut else other)
        value.backward()
        optimizer.step()
        return value.detach()

    model = TwoHeads()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    found = said(GRAPH_DETACHED, model, digits(), step=step, optimizer=optimizer)
    assert ["`l1_loss`" in f.measured and "boxes" in f.measured for f in found] == [True] * cut


@pytest.mark.parametrize(("sign", "wrong"), [("<", True), (">", False)])
def test_what_a_librarys_metric_gives_is_known_by_its_name(sign: str, wrong: bool) -> None:
    text = f"""
best_score = 0
for epoch in range(3):
    score = accuracy_score(labels, predicted)
    if score {sign} best_score:
        best_score = score
"""
    source = ScriptSource({"train.py": ast.parse(text)}, {}, ("train.py", 3, 6), 3)
    found = list(WORST_KEPT.run(SimpleNamespace(source=source)))  # type: ignore[arg-type]
    assert [f.code for f in found] == ["eval.worst-kept"] * wrong


@pytest.mark.parametrize(
    ("numbers", "wrong"), [(torch.tensor([0, 1, 2, 3]), False), (torch.tensor([1, 1, 2, 3]), True)]
)
def test_the_numbers_of_rows_are_no_labels(numbers: Tensor, wrong: bool) -> None:
    assert _number_rows(numbers) is not wrong


def test_rows_of_a_part_of_a_batch_are_known() -> None:
    tokens = torch.randint(1, 9, (16, 7), generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(28, 3))
    setup = make_setup(model, [(tokens, tokens[:, 0] % 3)] * 3, None, loss=nn.CrossEntropyLoss())
    evidence = Evidence(setup, Clock(20.0))
    for rows in (16, 8, 4):
        found = rows_of(evidence, torch.zeros(rows * 6, dtype=torch.long))
        assert found is not None
        assert found.shape == (rows, 6)
    assert rows_of(evidence, torch.zeros(5, dtype=torch.long)) is None


@pytest.mark.parametrize("period", [None, 24])
def test_windows_of_one_series_are_the_same_number_for_number(period: int | None) -> None:
    steps = torch.randn(1200, generator=torch.Generator().manual_seed(0)).cumsum(0)
    series = steps if period is None else torch.sin(torch.arange(1200) % period * (2 * torch.pi / period))
    windows = series.unfold(0, 60, 1)
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(1))
    loaders = [DataLoader(TensorDataset(windows[rows][:, :48], windows[rows][:, 48:]), 32) for rows in
               (order[200:], order[:200])]  # fmt: skip
    found = said(WINDOWS_SHARED, nn.Linear(48, 12), loaders[0], val=loaders[1], loss=nn.MSELoss())
    assert ["number for number" in f.measured for f in found] == [True] * (period is None)


@pytest.mark.parametrize("chance", [True, False])
def test_a_function_that_draws_by_chance_is_told_from_one_that_gives_a_grid(chance: bool) -> None:
    def anew() -> tuple[Tensor, Tensor]:
        rows = torch.randint(16, (8,), generator=torch.Generator().manual_seed(0))
        return rows.float(), rows % 10

    def grid() -> tuple[Tensor, Tensor]:
        return torch.linspace(0, 1, 8), torch.arange(8)

    (loop,) = ast.parse("for _ in range(9):\n    x, y = draw()\n    model(x)").body
    assert isinstance(loop, ast.For)
    assert drawn_batches.by_chance(loop, ["x", "y"], {"draw": anew if chance else grid}) is chance


def test_a_function_that_holds_the_network_is_given_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (drawn_batches, network_calls):
        monkeypatch.setattr(module, "written_by_user", lambda name: name == __name__)
    model, x = perceptron(), torch.randn(64, 1, 8, 8)

    def draw() -> tuple[Tensor, Tensor]:
        rows = torch.randint(64, (16,))
        return x[rows], rows % 10

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(model(images), labels)

    (loop,) = ast.parse("for _ in range(9):\n    loss = loss_of(*draw())\n    loss.backward()").body
    assert isinstance(loop, ast.For)
    found = drawing(loop, {"draw": draw, "loss_of": loss_of})
    assert found is not None
    assert [tuple(tensor.shape) for tensor in found[2]()] == [(16, 1, 8, 8), (16,)]


COUNTED = """
class Net:
    def {where}(self):
        {zero}
    def validation_step(self, batch, _):
        self.right += (self(batch[0]).argmax(1) == batch[1]).sum()
    def on_validation_epoch_end(self):
        print(self.right / self.size)
trainer.fit(model)
"""


@pytest.mark.parametrize(
    ("where", "zero", "wrong"),
    [
        ("on_fit_start", "self.right = 0", True),
        ("on_validation_epoch_start", "self.right = 0", False),
        ("on_validation_epoch_start", "self.right.zero_()", False),
    ],
)
def test_a_count_begins_anew_in_each_validation(where: str, zero: str, wrong: bool) -> None:
    library = LibraryTraining("Lightning's Trainer", 5)
    with suppress(NoEvidence):
        found = found_in_library(perceptron(), WRONG_COUNT, COUNTED.format(where=where, zero=zero), {}, library)
        assert [f.code for f in found] == ["eval.wrong-count"] * wrong
        return
    assert not wrong


@pytest.mark.parametrize("first", [12, 20])
def test_images_that_no_loader_yields_are_compared_by_their_names(first: int) -> None:
    images = torch.randn(30, 5, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    names: dict[str, Any] = {"train_images": images[:20], "valid_images": images[first:]}
    source = ScriptSource({"train.py": ast.parse("train_images")}, names, ("train.py", 1, 1), 3)
    setup = make_setup(perceptron(), digits(), None, source=source)
    found = [f.where for f in SPLIT_OVERLAP.run(Evidence(setup, Clock(20.0)))]
    assert found == ["train_images and valid_images"] * (first < 20)


class Colored(Dataset[Any]):
    """Pictures of one color each, of which some draws are flipped along an axis, or shuffled in their colors."""

    def __init__(self, axis: int | None, shuffled: bool = False) -> None:
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(200) % 3
        self.images = 0.3 * torch.randn(200, 3, 12, 12, generator=generator)
        self.images += functional.one_hot(self.labels, 3)[:, :, None, None]
        self.axis, self.shuffled = axis, shuffled

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        image = self.images[index]
        if self.shuffled:
            image = image[torch.randperm(3)]
        elif self.axis is not None and torch.rand(()) < 0.5:
            image = image.flip(self.axis)
        return image, self.labels[index]


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("axis", "shuffled", "wrong"), [(0, False, True), (-1, False, False), (None, True, False)])
def test_a_flip_along_the_axis_of_colors(axis: int | None, shuffled: bool, wrong: bool) -> None:
    loaders = [DataLoader(Colored(a, s), 40, shuffle=True) for a, s in ((axis, shuffled), (None, False))]
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 144, 3))
    found = said(AUGMENTATION, model, loaders[0], val=loaders[1], optimizer=adam)
    assert any("exchanged in one of the two draws" in f.measured for f in found) is wrong


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("times", "wrong"), [(1, True), (2, False)])
def test_the_part_that_is_shown_is_the_part_that_is_asked_for(times: int, wrong: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    large = functional.interpolate(torch.rand(48, 3, 8, 8, generator=generator), size=48, mode="bilinear")
    small = functional.avg_pool2d(large, 2)
    places = torch.randint(2, 9, (48, 2), generator=generator).tolist()
    x = torch.stack([one[:, a : a + 12, b : b + 12] for one, (a, b) in zip(small, places, strict=True)])
    y = torch.stack([one[:, times * a :, times * b :][:, :24, :24] for one, (a, b) in zip(large, places, strict=True)])
    model = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(3, 3, 3, padding=1))
    found = said(LEFT_BEHIND, model, DataLoader(TensorDataset(x, y), 16), loss=nn.MSELoss(), optimizer=adam)
    assert ["is like it once it is shifted" in f.measured for f in found] == [True] * wrong


def test_what_was_never_stored_is_no_transition() -> None:
    class Buffer:
        def __init__(self) -> None:
            self.observations, self.next_observations = np.zeros((500, 3)), np.zeros((500, 3))
            self.rewards, self.terminated = np.zeros(500), np.zeros(500)

    buffer, walk = Buffer(), np.random.default_rng(0).normal(size=(61, 3))
    buffer.observations[:60], buffer.next_observations[:60], buffer.rewards[:60] = walk[:-1], walk[1:], 1
    found = recorded({"buffer": buffer})
    assert found is not None
    assert len(found[1]) == 60


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("scaled", [True, False])
def test_inputs_that_the_step_scales_are_compared_with_validation(scaled: bool) -> None:
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    raw = 0.3 * x + 0.2
    data = DataLoader(TensorDataset(raw, y), 32, shuffle=True)
    val = DataLoader(TensorDataset(x[:200] if scaled else 3 * x[:200] + 2, y[:200]), 50)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(model((batch[0] - 0.2) / 0.3), batch[1])
        value.backward()
        optimizer.step()
        return value.detach()

    evidence = Evidence(make_setup(perceptron(), data, val, step=step, optimizer=adam), Clock(60.0))
    assert _prepared_by_step(evidence, evidence.samples.inputs, evidence.val_samples.inputs) is scaled
    if scaled:
        assert not said(SHIFT, perceptron(), data, val=val, step=step, optimizer=adam)


@pytest.mark.parametrize("part", [True, False])
def test_a_head_alone_is_a_small_part(part: bool) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 600), nn.ReLU(), nn.Linear(600, 10))
    optimizer = adam(model[3].parameters() if part else model.parameters())
    setup = make_setup(model, digits(), None, loss=nn.CrossEntropyLoss(), optimizer=optimizer)
    assert is_a_part(Evidence(setup, Clock(20.0))) is part


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("varied", [True, False])
def test_copies_that_the_step_varies_only_make_an_epoch_longer(varied: bool) -> None:
    x, y = next(iter(digits(200)))
    data = DataLoader(TensorDataset(x.repeat(3, 1, 1, 1), y.repeat(3)), 50, shuffle=True)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(model(noisy(batch[0]) if varied else batch[0]), batch[1])
        value.backward()
        optimizer.step()
        return value.detach()

    (found,) = asked(DUPLICATES, perceptron(), data, step=step, optimizer=adam)
    assert found.severity == ("note" if varied else "error")


class Packed(nn.Module):
    """States of a bidirectional GRU on packed sequences, put side by side or dealt out anew."""

    def __init__(self, *, dealt: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.gru = nn.Embedding(30, 12), nn.GRU(12, 16, batch_first=True, bidirectional=True)
        self.head, self.dealt = nn.Linear(32, 3), dealt

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(self.embedding(tokens), lengths, batch_first=True)
        states = self.gru(packed)[1]
        together = states.reshape(len(tokens), -1) if self.dealt else torch.cat([states[0], states[1]], 1)
        scores: Tensor = self.head(together)
        return scores


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("dealt", [True, False])
def test_rows_whose_lengths_have_to_fall_are_asked_about_too(dealt: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(6):
        lengths = torch.randint(4, 12, (24,), generator=generator).sort(descending=True).values
        tokens = torch.randint(1, 30, (24, int(lengths.max())), generator=generator)
        tokens[torch.arange(tokens.shape[1]) >= lengths[:, None]] = 0
        batches.append((tokens, lengths, tokens[:, 0] % 3))

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(model(batch[0], batch[1]), batch[2])
        value.backward()
        optimizer.step()
        return value.detach()

    found = said(BATCH_MIXING, Packed(dealt=dealt), batches, step=step, optimizer=adam)
    assert [f.code for f in found] == ["model.batch-mixing"] * dealt


class Owner:
    """Keeps the network and its average, which a method of it moves; others know it by a name."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.average = model, perceptron()

    def follow(self) -> None:
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.model.parameters(), strict=True):
                slow.lerp_(fast, 0.1)


def test_an_average_that_an_object_moves_is_seen_beside_the_users_own() -> None:
    model = perceptron()
    owner = Owner(model)

    def step(_: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value: Tensor = loss(owner.model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        owner.follow()
        return value.detach()

    Owner.known = owner  # type: ignore[attr-defined]
    try:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        options: dict[str, Any] = {"step": step, "loss": nn.CrossEntropyLoss(), "optimizer": optimizer}
        assert not said(EVALUATES_UNTRAINED, model, digits(), **options)
    finally:
        del Owner.known  # type: ignore[attr-defined]


def test_float16_that_breaks_is_told_where_float32_cannot_be_tried() -> None:
    model = perceptron().half()
    other = perceptron().half()

    def step(network: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(network(batch[0].half()).float(), batch[1])
        value.backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(other.parameters(), network.parameters(), strict=True):
                slow.lerp_(fast, 0.1)  # of one type alone
        return value.detach()

    (found,) = asked(LOW_PRECISION, model, digits(), step=step, optimizer=lambda p: torch.optim.Adam(p, lr=0.01))
    assert "and the loss is NaN or Inf" in found.measured


class Quantized(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor, scale: Tensor) -> Tensor:
        return (x / scale).round() * scale

    @staticmethod
    def backward(_: Any, *given: Tensor) -> Any:
        return given[0], None


@pytest.mark.parametrize(("learned", "meant"), [(False, True), (True, False)])
def test_only_gradients_that_are_asked_for_are_held_against_slopes(learned: bool, meant: bool) -> None:
    x = torch.randn(40, requires_grad=True)
    scale = torch.tensor([0.1], requires_grad=learned)
    found = check_function(Quantized, (x, scale))
    assert found.meant is meant
    assert len(found.wrong) == 1 + learned
