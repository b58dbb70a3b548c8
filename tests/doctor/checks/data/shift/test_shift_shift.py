"""`data.shift`: validation inputs that are preprocessed differently from training inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, TensorDataset

from for_checks.asked import adam, asked, asked_in_script, digits, parts, perceptron, read, said, stepped
from for_checks.claims import Claims, of_claims, policies
from for_checks.embeddings import Embedding, SignalTriplets, Spectra, step_of_triplets, triplets, waves
from for_checks.networks import convolutions
from for_checks.pictures import Enlarging
from for_checks.sequences import WORDS, translated_sentences
from for_checks.steps import codes_said
from striate.doctor.checks.data.shift import shift
from striate.doctor.checks.data.shift.shift import SHIFT, _prepared_by_step
from striate.doctor.checks.fit.overfit import OVERFIT
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.predictions import Predictions
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup

Pair = tuple[Tensor, Tensor]


def fast(parameters: object) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=5e-3)  # type: ignore[arg-type]


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
    found = asked(SHIFT, convolutions(), train, val=(spoil(x), y), optimizer=fast)
    assert [finding.code for finding in found] == ["data.shift"]
    if what != "scale or offset":
        assert what in found[0].measured
    assert not asked(SHIFT, convolutions(), train, val=(x, y), optimizer=fast)


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
    (finding,) = asked(SHIFT, convolutions(), train, val=(x.double(), y))
    assert finding.severity == "error"
    assert "float64" in finding.measured


@pytest.mark.slow
def test_inputs_of_other_axes_in_a_script_are_those_of_another_network() -> None:
    train, (x, y) = parts()
    source = ScriptSource({}, {}, ("script.py", 1, 2), None)
    assert asked(SHIFT, convolutions(), train, val=(x.flatten(1)[:, :30], y))
    with pytest.raises(NoEvidence, match="another network"):
        asked(SHIFT, convolutions(), train, val=(x.flatten(1)[:, :30], y), source=source)


def test_overfitting_is_no_shift() -> None:
    (x, y), val = parts()
    few = torch.optim.Adam
    assert not asked(SHIFT, perceptron(256), (x[:60], y[:60]), val=val, optimizer=lambda p: few(p, lr=1e-2))


def test_images_that_are_far_smoother_are_another_preparation() -> None:
    train, (x, y) = parts()
    middle = x[:, :, 2:6, 2:6].repeat_interleave(2, 2).repeat_interleave(2, 3)
    (finding,) = asked(SHIFT, convolutions(), train, val=(middle, y), optimizer=fast)
    assert finding.code == "data.shift"


class Noisy(Dataset[Pair]):
    """Samples with noise that differs each time, as augmentation of training adds it."""

    def __init__(self, pair: Pair) -> None:
        self.x, self.y = pair

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, number: int) -> Pair:
        return self.x[number] + 1.2 * torch.randn_like(self.x[number]), self.y[number]


@pytest.mark.parametrize(
    ("scaled", "noisy", "wrong"), [(False, False, True), (True, False, False), (True, True, False)]
)
def test_the_loss_shows_validation_that_is_not_standardized(scaled: bool, noisy: bool, wrong: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(1000) % 10
    x = torch.randn(10, 1, 8, 8, generator=generator)[y] + 1.5 * torch.randn(1000, 1, 8, 8, generator=generator)
    train, val = (x[:700], y[:700]), (x[700:] if scaled else 0.4 * x[700:], y[700:])
    loader = DataLoader(Noisy(train) if noisy else TensorDataset(*train), 32, shuffle=True)
    found = asked(SHIFT, perceptron(), loader, val=val, optimizer=lambda p: torch.optim.Adam(p, 1e-3))
    assert ["the loss is" in finding.measured for finding in found] == [True] * wrong


PREPARED = """
def channels(x):
    return x

@torch.no_grad()
def test():
    return model(channels(x)).argmax(1)

for x, y in loader:
    loss = functional.cross_entropy(model({}(x)), y)
"""


@pytest.mark.parametrize(("trained", "wide"), [("channels", True), ("channels", False), ("", True)])
def test_samples_that_only_training_brings_to_one_place_and_size(trained: str, wide: bool) -> None:
    """Not where only the evaluation calls a function that may do it."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(400, 24, generator=generator), torch.arange(400) % 3
    x[torch.arange(400), y] += 4
    places = 900 * torch.randn(400, 24, generator=generator)
    model = nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 3))
    val = TensorDataset(40 * x + places if wide else x, y)
    tensors = {"model": model, "x": x[:9], "y": y[:9], "torch": torch, "functional": functional}
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-2), "val": DataLoader(val, 50)}
    loader = DataLoader(TensorDataset(x, y), 40, shuffle=True)
    said = read(PREPARED.format(trained), SHIFT, model, loader, loss=nn.CrossEntropyLoss(), names=tensors, **options)
    assert ["times as large" in one.measured for one in said] == [True] * (wide and bool(trained))


@pytest.mark.parametrize("scale", [600.0, 1.0])
def test_validation_of_triplets_that_is_not_scaled(scale: float) -> None:
    train, (x, labels) = DataLoader(SignalTriplets(*waves(300, 0)), 30), waves(150, 1)
    model = Spectra()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-2), "step": step_of_triplets}
    said = asked_in_script(SHIFT, model, train, val=DataLoader(TensorDataset(scale * x, labels), 50), **options)
    assert ["nearest training sample" in one.measured for one in said] == [True] * (scale > 1)


EVALUATED = """
@torch.no_grad()
def evaluate(model, val_loader):
    for images, labels in val_loader:
        inputs = GIVEN
        right = (model(inputs).argmax(1) == labels).sum()
for x, y in loader:
    step(model, x, y)
evaluate(model, val_loader)
"""


@pytest.mark.parametrize(("given", "wrong"), [("images.float()", True), ("normalize(images)", False)])
def test_an_evaluation_without_what_the_step_prepares(given: str, wrong: bool) -> None:
    torch.manual_seed(0)
    labels = torch.arange(480) % 3
    x = 0.4 + 0.02 * torch.randn(480, 1, 8, 8)
    x[torch.arange(480), 0, 2 * labels] += 0.1
    train, val = (DataLoader(TensorDataset(x[part], labels[part]), 40) for part in (slice(320), slice(320, None)))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        return stepped(functional.cross_entropy(model((batch[0] - 0.41) / 0.04), batch[1]), optimizer)

    names = {"model": model, "val_loader": val, "torch": torch}
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step, "val": val, "names": names}
    said = read(EVALUATED.replace("GIVEN", given), SHIFT, model, train, **options)
    assert ["gives it unprepared inputs" in one.measured for one in said] == [True] * wrong


@pytest.mark.parametrize("moved", [6.0, -3.0])
def test_a_column_of_a_table_beside_categories_is_prepared_otherwise(moved: float) -> None:
    assert of_claims(SHIFT, Claims(), policies(slice(192, 240), moved)) == ["data.shift"] * (moved > 0)


LOSS = nn.CrossEntropyLoss()


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


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("noise", "nearest", "wrong"), [(0, True, True), (0, False, False), (0.3, True, False)])
def test_small_images_are_made_in_one_way(noise: float, nearest: bool, wrong: bool) -> None:
    torch.manual_seed(0)
    large = functional.interpolate(torch.rand(80, 1, 16, 16), size=24, mode="bilinear")
    small = functional.avg_pool2d(large, 2) + noise * torch.randn(80, 1, 12, 12)
    sampled = large[..., ::2, ::2] if nearest else small
    parts = ((small, slice(48)), (sampled, slice(48, 80)))
    train, val = (DataLoader(TensorDataset(x[rows], large[rows]), 16) for x, rows in parts)
    found = asked(SHIFT, Enlarging(nn.Identity(), clamped=False), train, val=val, loss=nn.L1Loss(), task="regress")
    assert ["downscaled in another way" in finding.measured for finding in found] == [True] * wrong


@pytest.mark.parametrize("as_is", [True, False])
def test_queries_of_an_embedding_are_prepared_otherwise(as_is: bool) -> None:
    torch.manual_seed(0)
    patterns, labels = torch.rand(6, 1, 8, 8), torch.arange(360) % 6
    x = (patterns[labels] + 0.15 * torch.randn(360, 1, 8, 8)).clamp(0, 1)
    scaled = (x - 0.5) / 0.1 + 12
    model = Embedding()
    train = DataLoader(TensorDataset(scaled[:240], labels[:240]), 24)
    val = DataLoader(TensorDataset((x if as_is else scaled)[240:], labels[240:]), 40)
    options: Any = {"loss": triplets, "optimizer": torch.optim.Adam(model.parameters(), 1e-3), "val": val}
    said = asked_in_script(SHIFT, model, train, **options)
    assert [one.code for one in said] == ["data.shift"] * as_is


@pytest.mark.parametrize("refused", [True, False])
def test_outputs_of_several_lengths_are_no_refusal(refused: bool) -> None:
    network = nn.Sequential(nn.Embedding(WORDS, 8), nn.Linear(8, WORDS))

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        return stepped(functional.cross_entropy(model(batch).flatten(0, 1), batch.flatten()), optimizer)

    def collate(rows: list[Tensor]) -> Tensor:
        return pad_sequence(rows, batch_first=True)

    asked = (
        [row.float() for row in translated_sentences(5, 5)]
        if refused
        else translated_sentences(5, 5, 64) + translated_sentences(7, 7, 64)
    )
    train, val = (DataLoader(part, 32, collate_fn=collate) for part in (translated_sentences(6, 6), asked))  # type: ignore[arg-type]
    said = asked_in_script(SHIFT, network, train, val=val, step=step)
    assert [one.code for one in said] == ["data.shift"] * refused


def masks(shift: float = 0.0, scale: float = 1.0) -> DataLoader[Any]:
    x = torch.cat([x for x, _ in digits(most=320)])
    return DataLoader(TensorDataset(x * scale + shift, (x > 0).float()), 32)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("right", [True, False])
def test_a_loss_within_the_step_tells_validation_of_another_scale(right: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.binary_cross_entropy_with_logits(model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        return value.detach()

    options: Any = {"step": step, "optimizer": lambda p: torch.optim.Adam(p, lr=0.02), "task": "multilabel"}
    found_there = asked(SHIFT, model, masks(), val=masks() if right else masks(0.4, 0.2), **options)
    assert [one.code for one in found_there] == ["data.shift"] * (not right)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("prepared", [True, False])
def test_prices_of_validation_stay_what_they_are(prepared: bool) -> None:
    """Training has standardized prices, validation prices; where its inputs lack what was done to training's, they are
    told."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 6, generator=generator)
    y = x @ torch.tensor([1.0, -2.0, 0.5, 0, 0, 1]) + 0.1 * torch.randn(600, generator=generator)
    train = DataLoader(TensorDataset(x[:400], ((y - y.mean()) / y.std())[:400, None]), 32, shuffle=True)
    val = (x[400:] if prepared else 10 * x[400:] + 40, 30 * y[400:, None] + 250)
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    found = [
        f.code
        for c in (SHIFT, OVERFIT)
        for f in asked(c, model, train, val=val, loss=nn.MSELoss(), optimizer=optimizer)
    ]
    assert ("data.shift" in found) is not prepared
    assert found == [] or not prepared


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


class Sides(Dataset[tuple[Tensor, Tensor]]):
    """Noise with a bright square in a corner, which is the label; mirrored without it: mostly, in each draw anew, or
    always."""

    def __init__(self, kind: str, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.kind, self.labels = kind, torch.randint(4, (200,), generator=generator)
        self.images = 0.3 * torch.randn(200, 1, 8, 8, generator=generator)
        for image, label in zip(self.images, self.labels.tolist(), strict=True):
            image[:, 4 * (label // 2) :, 4 * (label % 2) :][:, :4, :4] += 3

    def __len__(self) -> int:
        return 200

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        turned = self.kind == "always" or (self.kind == "mostly" and torch.rand(()) < 0.8)
        image = self.images[number]
        return image.flip(-1) if turned else image, self.labels[number]


@pytest.mark.parametrize(("kind", "wrong"), [("mostly", False), ("always", True)])
def test_what_augmentation_mirrors_is_no_other_preparation(kind: str, wrong: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    loader, val = DataLoader(Sides(kind, 0), 25, shuffle=True), DataLoader(Sides("never", 1), 50)
    found = said(SHIFT, model, loader, val=val, optimizer=lambda p: torch.optim.Adam(p, lr=0.01))
    assert ["left and right exchanged" in f.measured for f in found] == [True] * wrong


def amounts(shift: float, scale: float) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(int(shift))
    x = torch.rand(300, 1, 6, 6, generator=generator)
    y = 1000 * x.mean((1, 2, 3)) + 200 * x[:, 0, 0, 0]
    return DataLoader(TensorDataset((x - shift) / scale, y), 30)


def rapid(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.03)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("prepared", [True, False])
def test_predictions_are_compared_with_targets_as_the_step_scales_them(prepared: bool) -> None:
    train, val = amounts(0.5, 0.25), amounts(0.5, 0.25) if prepared else amounts(0.0, 1.0)

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value: Tensor = loss(model(batch[0])[:, 0], (batch[1] - 600) / 80)
        value.backward()
        optimizer.step()
        return value.detach()

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 1))
    options: Any = {"loss": nn.MSELoss(), "step": step, "task": "regress", "optimizer": rapid}
    evidence = Evidence(make_setup(model, train, val, **options), Clock(60.0))
    scale = evidence.target_scale
    assert scale is not None
    assert float(scale.times) == pytest.approx(1 / 80, rel=1e-3)
    assert evidence.after.targets is not None
    assert abs(float(evidence.after.targets.mean())) < 1
    assert [one.code for one in said(SHIFT, model, train, val=val, **options)] == ["data.shift"] * (not prepared)


class Scenes(TensorDataset):
    """Squares as pixels of 0 to 1, or standardized, with their number and the index that nobody needs."""

    def __init__(self, count: int, *, standardized: bool) -> None:
        generator = torch.Generator().manual_seed(count)
        corner = torch.randint(0, 5, (count, 2), generator=generator)
        x = torch.rand(count, 1, 8, 8, generator=generator) * 0.1
        for image, (top, left) in zip(x, corner.tolist(), strict=True):
            image[:, top : top + 3, left : left + 3] += 0.5
        super().__init__((x - 0.15) / 0.2 if standardized else x, corner.float(), torch.arange(count))


def scenes_step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
    x, corner, _ = batch
    value = functional.smooth_l1_loss(model(x), corner) + 0.0 * corner.sum()
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value.detach()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("standardized", [True, False])
def test_a_loss_of_more_than_outputs_and_targets_is_asked_of_the_step(standardized: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2))
    val = DataLoader(Scenes(60, standardized=standardized), 30)
    train = DataLoader(Scenes(256, standardized=True), 32, shuffle=True)
    told = codes_said(
        SHIFT, model, train, val=val, step=scenes_step, optimizer=lambda parameters: adam(parameters, 0.001)
    )
    assert told == ["data.shift"] * (not standardized)


class BagOfWords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.last = nn.Embedding(40, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.words(x).mean(1))


@pytest.mark.parametrize("own_vocabulary", [True, False])
def test_words_that_have_other_numbers_in_validation(own_vocabulary: bool) -> None:
    torch.manual_seed(0)
    x = torch.randint(0, 30, (800, 12))
    y = torch.randint(0, 2, (800,))
    x[:, :3] = 30 + 5 * y[:, None] + torch.randint(0, 5, (800, 3))
    other = torch.randperm(40)[x[600:]] if own_vocabulary else x[600:]
    train = DataLoader(TensorDataset(x[:600], y[:600]), 30)
    found = asked(SHIFT, BagOfWords(), train, val=(other, y[600:]), optimizer=lambda p: torch.optim.Adam(p, lr=0.03))
    assert ["which is chance" in one.measured for one in found] == [True] * own_vocabulary


def test_a_trial_that_learned_nothing_shows_no_shift(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial on fewer batches may have learned, and then predicts validation too."""
    torch.manual_seed(0)
    x, y = torch.randint(0, 30, (800, 12)), torch.arange(800) % 2
    x[:, :3] = 30 + 5 * y[:, None] + torch.randint(0, 5, (800, 3))
    train = DataLoader(TensorDataset(x[:600], y[:600]), 30, shuffle=True)

    def constant(evidence: Any) -> Predictions:
        return replace(evidence.after_val, outputs=torch.ones_like(evidence.after_val.outputs))

    monkeypatch.setattr(shift, "validation_predictions", constant)
    found = asked(SHIFT, BagOfWords(), train, val=(x[600:], y[600:]), optimizer=lambda p: torch.optim.Adam(p, lr=0.03))
    assert not found
