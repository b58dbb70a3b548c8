"""Pictures with holes, triplets in one batch and lists of metrics: faults that were met in scripts, and their healthy
twins."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from asked import digits, perceptron
from test_met_in_vision_scripts import read
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.inputs.scrambled import SCRAMBLED
from striate.doctor.checks.data.shift.fitted_anew import FITTED_ANEW
from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.checks.model.batch_dependence import BATCH_MIXING
from striate.doctor.checks.model.last_layer import LAST_LAYER_CLIPPED

LOOP = "for x, y in loader:\n    pass\n"


def stepped(loss: Tensor, optimizer: Any) -> Tensor:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


class Embedding(nn.Module):
    def __init__(self, axis: int) -> None:
        super().__init__()
        self.layer, self.axis = nn.Linear(64, 8), axis

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(self.layer(x.flatten(1)), dim=self.axis)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("interleaved", [False, True])
def test_samples_of_three_images_in_one_batch_are_kept_apart(axis: int, interleaved: bool) -> None:
    torch.manual_seed(0)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        together = torch.stack(batch, 1).flatten(0, 1) if interleaved else torch.cat(batch)
        found = model(together)
        parts = found.unflatten(0, (-1, 3)).unbind(1) if interleaved else found.chunk(3)
        return stepped(functional.triplet_margin_loss(*parts), optimizer)

    model = Embedding(axis)
    train = DataLoader(TensorDataset(*torch.randn(3, 48, 1, 8, 8)), 12)
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step}
    assert [one.code for one in read(LOOP, BATCH_MIXING, model, train, **options)] == ["model.batch-mixing"] * (
        not axis
    )


@pytest.mark.parametrize(
    ("whole", "narrow", "wrong"), [(True, False, True), (False, False, False), (True, True, False)]
)
def test_a_hole_that_is_not_cut_out(whole: bool, narrow: bool, wrong: bool) -> None:
    """An autoencoder, which has to pass few numbers, may be given the whole picture."""
    torch.manual_seed(0)
    images, masks = torch.rand(32, 3, 8, 8), torch.zeros(32, 1, 8, 8)
    for number, mask in enumerate(masks):
        mask[:, number % 5 : number % 5 + 3, 2:5] = 1

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        image, mask = batch
        shown = image if whole else image * (1 - mask)
        error = (model(torch.cat([shown, mask], 1)) - image).abs()
        return stepped((error * mask).sum() / mask.sum(), optimizer)

    between = [nn.Conv2d(8, 2, 4, 4), nn.ConvTranspose2d(2, 8, 4, 4)] if narrow else []
    model = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), *between, nn.Conv2d(8, 3, 3, padding=1))
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step}
    said = read(LOOP, TARGET_IN_INPUT, model, DataLoader(TensorDataset(images, masks), 8), **options)
    assert [one.code for one in said] == ["data.target-in-input"] * wrong


@pytest.mark.parametrize(("low", "wrong"), [(-1.0, True), (0.0, False), (None, False)])
@pytest.mark.parametrize("by_function", [False, True])
def test_a_sigmoid_before_an_error_that_the_step_computes(low: float | None, wrong: bool, by_function: bool) -> None:
    """Where -1 stands for what is missing, nothing lies outside."""
    torch.manual_seed(0)
    x, y = torch.randn(64, 6), torch.rand(64, 4)
    y = y.where(torch.rand(64, 4) < 0.8, -1.0) if low is None else low + (1 - low) * y

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        error, counted = model(batch[0]) - batch[1], (batch[1] > -1).float()
        error = error.abs() if by_function else error * error
        return stepped((error * counted).sum() / counted.sum(), optimizer)

    model = nn.Sequential(nn.Linear(6, 4), nn.Sigmoid())
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step}
    said = read(LOOP, LAST_LAYER_CLIPPED, model, DataLoader(TensorDataset(x, y), 16), **options)
    assert [one.code for one in said] == ["model.last-layer-clipped"] * wrong


VALIDATE = """
def validate(self):
    dl, sums = self.valid, [0.0] * len(self.metrics)
    for xb, yb in dl:
        preds = self.model(xb)
        sums = [s + m(preds, yb) for s, m in zip(sums, self.metrics)]
    return [s / (NUMBER) for s in sums]
"""


@pytest.mark.parametrize(
    ("number", "samples", "wrong"),
    [("len(dl) * dl.batch_size", 100, True), ("len(dl) * dl.batch_size", 96, False), ("len(dl.dataset)", 100, False)],
)
def test_metrics_in_a_list_are_divided_by_whole_batches(number: str, samples: int, wrong: bool) -> None:
    valid = DataLoader(TensorDataset(torch.zeros(samples, 1, 8, 8), torch.zeros(samples).long()), 32)
    names = {"self": SimpleNamespace(valid=valid, metrics=[len], model=None)}
    said = read(VALIDATE.replace("NUMBER", number) + LOOP, WRONG_COUNT, perceptron(), digits(), names=names)
    assert [one.code for one in said] == ["eval.wrong-count"] * wrong


@pytest.mark.parametrize(
    ("first", "second", "wrong"),
    [
        ('pd.factorize(trn_df["grade"])', 'pd.factorize(val_df["grade"])', True),
        ("trn_df.grade.factorize()", "val_df.grade.factorize()", True),
        ('pd.factorize(trn_df["grade"], sort=True)', 'pd.factorize(val_df["grade"], sort=True)', False),
        ('pd.factorize(df["grade"])', 'pd.factorize(df["place"])', False),
    ],
)
def test_labels_are_numbered_as_they_appear_in_each_part(first: str, second: str, wrong: bool) -> None:
    text = f"a = {first}[0]\nb = {second}[0]\n{LOOP}"
    assert [one.code for one in read(text, FITTED_ANEW, perceptron(), digits())] == ["data.label-map"] * wrong


class Clips(nn.Module):
    """Looks at one frame after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.frame = nn.Sequential(nn.Conv2d(1, 6, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 16), nn.ReLU())
        self.time, self.head = nn.GRU(16, 16, batch_first=True), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        frames: Tensor = self.frame(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.head(self.time(frames)[0][:, -1])  # type: ignore[no-any-return]


@pytest.mark.parametrize("way", ["dealt", "in order", "apart"])
def test_clips_whose_time_was_reshaped_to_the_front(way: str) -> None:
    """Images that have nothing to do with each other are no clip."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(128) % 2
    rows, columns, times = torch.meshgrid(
        torch.arange(12.0), torch.arange(12.0), torch.arange(-2.5, 3.0), indexing="ij"
    )
    row, column = (4 + 4 * torch.rand(2, 128, 1, 1, 1, generator=generator)).unbind(0)
    sign = (1.0 - 2 * labels)[:, None, None, None]
    volumes = (-((rows - row).square() + (columns - column - sign * times).square()) / 8).exp()
    volumes = 4 * volumes + 0.3 * torch.randn(volumes.shape, generator=generator)
    clips = volumes.reshape(128, 6, 12, 12) if way == "dealt" else volumes.permute(0, 3, 1, 2)
    clips = (
        clips.flatten(0, 1)[torch.randperm(768, generator=generator)].unflatten(0, (128, 6))
        if way == "apart"
        else clips
    )
    torch.manual_seed(0)
    model = Clips()
    options: Any = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.Adam(model.parameters(), 3e-3)}
    said = read(LOOP, SCRAMBLED, model, DataLoader(TensorDataset(clips[:, :, None], labels), 16), **options)
    assert [one.code for one in said] == ["data.scrambled"] * (way == "dealt")


@pytest.mark.parametrize("dealt", [True, False])
def test_clips_whose_colors_were_reshaped_to_the_front(dealt: bool) -> None:
    """Of a network that takes all frames for channels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(96) % 2
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    row, column = (4 + 4 * torch.rand(2, 96, 1, 1, 1, generator=generator)).unbind(0)
    across = column + (1.0 - 2 * labels)[:, None, None, None] * torch.arange(-2.5, 3.0)[:, None, None]
    frames = (-((rows - row).square() + (columns - across).square()) / 8).exp()  # (N, T, H, W)
    clips = frames[..., None] * (0.4 + torch.rand(96, 1, 1, 1, 3, generator=generator))
    clips = clips + 0.05 * torch.randn(clips.shape, generator=generator)
    clips = clips.reshape(96, 3, 6, 12, 12) if dealt else clips.permute(0, 4, 1, 2, 3)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(1, 2), nn.Conv2d(18, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2))
    options: Any = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.Adam(model.parameters(), 3e-3)}
    said = read(LOOP, SCRAMBLED, model, DataLoader(TensorDataset(clips.contiguous(), labels), 16), **options)
    assert [one.code for one in said] == ["data.scrambled"] * dealt
