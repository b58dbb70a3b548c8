"""`data.scrambled`: values at wrong positions, such as by `view` where `permute` was meant."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, asked_in_script, digits, loop, perceptron, pixels, read, said, stepped
from striate.doctor.checks.data.inputs.scrambled import MIXED_UP, SCRAMBLED, reread, roughness
from striate.doctor.evidence.clock import NoEvidence


def colored(count: int = 160) -> tuple[Tensor, Tensor]:
    """Smooth pictures (N, 16, 16, 3) with three brightnesses, and where they are brightest."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(count, 3, 4, 4, generator=generator)
    smooth = functional.interpolate(coarse, 16, mode="bilinear", align_corners=False)
    return smooth.permute(0, 2, 3, 1).contiguous(), (coarse[:, 0, :, :2].mean((1, 2)) > 0).long()


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 2))


@pytest.mark.slow
def test_view_where_permute_was_meant() -> None:
    x, y = colored()
    (finding,) = asked(SCRAMBLED, small_network(), (x.reshape(-1, 3, 16, 16), y))
    assert "(16, 16, 3) instead of (3, 16, 16)" in finding.measured
    assert "x.permute(0, 3, 1, 2)" in finding.remedy
    assert not asked(SCRAMBLED, small_network(), (x.permute(0, 3, 1, 2).contiguous(), y))


@pytest.mark.slow
def test_view_inside_forward_also_before_a_function() -> None:
    class Viewing(nn.Module):
        def __init__(self, right: bool) -> None:
            super().__init__()
            self.right = right
            self.weight = nn.Parameter(0.2 * torch.randn(8, 3, 3, 3))
            self.last = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = x.permute(0, 3, 1, 2) if self.right else x.reshape(-1, 3, 16, 16)
            return self.last(functional.conv2d(x, self.weight).relu().mean((2, 3)))  # type: ignore[no-any-return]

    (finding,) = asked(SCRAMBLED, Viewing(False), colored())
    assert finding.where == "forward, before the first convolution"
    assert not asked(SCRAMBLED, Viewing(True), colored())


@pytest.mark.slow
def test_signals_of_a_sensor_with_exchanged_axes() -> None:
    generator = torch.Generator().manual_seed(0)
    turns = torch.cumsum(torch.randn(120, 40, 3, generator=generator), 1)  # (N, time, axis)
    y = torch.arange(120) % 2
    model = nn.Sequential(nn.Conv1d(3, 8, 5), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(8, 2))
    assert asked(SCRAMBLED, model, (turns.reshape(-1, 3, 40), y))
    assert not asked(SCRAMBLED, model, (turns.transpose(1, 2).contiguous(), y))


def test_noise_is_as_rough_in_every_order() -> None:
    x = torch.randn(100, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert not asked(SCRAMBLED, small_network(), (x, torch.arange(100) % 2))


@pytest.mark.slow
def test_samples_that_are_one_place_of_many() -> None:
    x, y = pixels(640)
    stored = x[:, 0].permute(1, 2, 0).contiguous()  # (H, W, N)
    (finding,) = asked(MIXED_UP, perceptron(), (stored.reshape(x.shape), y))
    assert finding.code == "data.scrambled"
    assert "np.moveaxis(x, -1, 0)" in finding.remedy
    assert not asked(MIXED_UP, perceptron(), (x, y))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    assert not asked(MIXED_UP, perceptron(), (noise, y))


def test_reading_anew_undoes_a_view() -> None:
    x = torch.randn(2, 4, 5, 3)
    viewed = x.reshape(2, 3, 4, 5)
    assert torch.equal(reread(viewed, (2, 3, 1)), x.permute(0, 3, 1, 2))
    assert roughness(torch.arange(12.0).reshape(1, 1, 3, 4), 1) < roughness(
        torch.tensor([0.0, 9, 0, 9]).view(1, 1, 4), 1
    )


@pytest.mark.slow
def test_rows_as_channels_are_no_scramble() -> None:
    x, y = pixels(640)
    model = nn.Sequential(nn.Conv1d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 10))
    assert not asked(SCRAMBLED, model, (x[:, 0].contiguous(), y))
    assert not asked(SCRAMBLED, model, (x[:, 0].transpose(1, 2).contiguous(), y))


class Points(nn.Module):
    """Of points (N, 2, places) the largest of what is made of each."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv1d(2, 16, 1), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu().amax(2))


@pytest.mark.slow
@pytest.mark.parametrize("viewed", [True, False])
def test_points_that_are_viewed_for_transposed(viewed: bool) -> None:
    torch.manual_seed(0)
    y, along = torch.arange(320) % 2, torch.randn(320, 16)
    x = torch.stack([along, along * (2 * y[:, None] - 1)], 2) + 0.1 * torch.randn(320, 16, 2)
    model = Points()

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        given = batch[0].reshape(len(batch[0]), 2, 16) if viewed else batch[0].transpose(1, 2)
        return stepped(functional.cross_entropy(model(given), batch[1]), optimizer)

    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-2), "step": step}
    said = asked_in_script(SCRAMBLED, model, DataLoader(TensorDataset(x, y), 32, shuffle=True), **options)
    assert [one.code for one in said] == ["data.scrambled"] * viewed


LOSS = nn.CrossEntropyLoss()


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


class Averaged(nn.Module):
    """In evaluation an average of the weights answers."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(4, 16, 7, padding=3), nn.ReLU(), nn.Conv1d(16, 16, 7, 2, 3), nn.ReLU(), nn.AdaptiveMaxPool1d(1)
        )
        self.net.append(nn.Flatten()).append(nn.Linear(16, 3))
        self.average = copy.deepcopy(self.net).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        given: Tensor = self.net(x) if self.training else self.average(x)
        return given


def averaged(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
    model.train()
    optimizer.zero_grad()
    value: Tensor = loss(model(batch[0]), batch[1])
    value.backward()
    optimizer.step()
    with torch.no_grad():
        for average, own in zip(model.average.parameters(), model.net.parameters(), strict=True):
            average.lerp_(own, 0.2)
    return value


@pytest.mark.parametrize("viewed", [True, False])
def test_leads_are_put_before_time_by_permute(viewed: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(600) % 3
    place = 20 + 88 * torch.rand(600, 1, generator=generator)
    beats = torch.exp(-(((torch.arange(128.0) - place) / torch.tensor([2.0, 5.0, 9.0])[y][:, None]) ** 2))
    strips = beats[..., None] * torch.tensor([1.0, -0.6, 0.8, 0.4]) + 0.1 * torch.randn(
        600, 128, 4, generator=generator
    )
    x = strips.reshape(600, 4, 128) if viewed else strips.permute(0, 2, 1).contiguous()
    torch.manual_seed(0)
    model = Averaged()
    optimizer = torch.optim.Adam(model.net.parameters(), lr=2e-3)
    train = DataLoader(TensorDataset(x, y), 40, shuffle=True)
    assert bool(asked(SCRAMBLED, model, train, optimizer=optimizer, step=averaged)) == viewed


LOOP = "for x, y in loader:\n    pass\n"


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


CROSS_ENTROPY = functional.cross_entropy


@pytest.mark.slow
def test_a_recurrence_along_the_samples_has_no_places_to_exchange() -> None:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.out = nn.GRU(8, 8), nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.gru(x[:, 0])[0][:, -1])

    model = Rows()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    with pytest.raises(NoEvidence, match="along the axis of samples"):
        asked(SCRAMBLED, model, digits(), loss=CROSS_ENTROPY, optimizer=optimizer, step=loop)


@pytest.mark.parametrize("reshaped", [True, False])
def test_leads_that_are_interleaved_in_noise(reshaped: bool) -> None:
    torch.manual_seed(0)
    y = torch.arange(320) % 2
    wave = torch.exp(-(((torch.arange(48.0) - 12 - 20 * torch.rand(320, 1)) / 5) ** 2)) * (2 * y[:, None] - 1)
    x = wave[:, :, None] * torch.tensor([1.0, 0.6, -0.8, -0.5, 1.2]) + 0.5 * torch.randn(320, 48, 5)
    x = x.reshape(320, 5, 48) if reshaped else x.transpose(1, 2).contiguous()
    model = nn.Sequential(
        nn.Conv1d(5, 8, 7, padding=3), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(8, 2)
    )
    adam = torch.optim.Adam(model.parameters(), 5e-3)
    said = asked_in_script(SCRAMBLED, model, DataLoader(TensorDataset(x, y), 32, shuffle=True), optimizer=adam)
    assert [one.code for one in said] == ["data.scrambled"] * reshaped
