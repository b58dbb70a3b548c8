"""Pictures that tests of checks share: shapes, points and noise that a few steps learn."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from for_checks.asked import asked, asked_in_script
from striate.doctor.evidence.clock import NoEvidence
from striate.records import Finding


class Drawn(Dataset[tuple[Tensor, Tensor]]):
    """Images with two labels each, changed anew each time."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        generator = torch.Generator().manual_seed(0)
        self.y = (torch.rand(160, 2, generator=generator) < 0.5).float()
        self.x = 0.1 * torch.randn(160, 1, 16, 16, generator=generator)
        self.x[:, :, :8] += self.y[:, 0, None, None, None]
        self.x[:, :, 8:] += self.y[:, 1, None, None, None]
        self.change = change

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        return self.change(self.x[number]), self.y[number]


class Labeled(Drawn):
    """With one label each."""

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        x, y = super().__getitem__(number)
        return x, y[0].long()


class Wedges(Dataset[tuple[Tensor, Tensor]]):
    """Dark on the left, on the right, above, below; one image in five is changed."""

    def __init__(self, change: Callable[[Tensor], Tensor], samples: int) -> None:
        generator = torch.Generator().manual_seed(samples)
        self.y = torch.randint(4, (samples,), generator=generator)
        slope = torch.linspace(-1, 1, 12).expand(12, 12)
        kinds = torch.stack([slope, slope.flip(-1), slope.T, slope.T.flip(-2)])[:, None]
        self.x = kinds[self.y] + 0.3 * torch.randn(samples, 1, 12, 12, generator=generator)
        self.change = change

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        x = self.x[number]
        return (self.change(x) if torch.rand(()) < 0.2 else x), self.y[number]


class Clips(nn.Module):
    """Frames (N, T, D) to the last state of a recurrence; `mixing`: (N·T, D) is viewed as (T, N, D)."""

    def __init__(self, mixing: bool) -> None:
        super().__init__()
        self.mixing, self.embed, self.score = mixing, nn.Linear(16, 8), nn.Linear(8, 3)
        self.rnn = nn.GRU(8, 8, batch_first=True)

    def forward(self, clips: Tensor) -> Tensor:
        (n, t), frames = clips.shape[:2], self.embed(clips.flatten(0, 1))
        out, _ = self.rnn(frames.view(t, n, -1).transpose(0, 1) if self.mixing else frames.view(n, t, -1))
        return self.score(out[:, -1])


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


def signs(kinds: int) -> tuple[nn.Module, DataLoader[Any]]:
    """A network that takes some hundred steps to tell products of signs."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1200, 10, generator=generator)
    y = (x[:, :kinds].sign().prod(1) > 0).long()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    return model, DataLoader(TensorDataset(x, y), 60, shuffle=True)


class Enlarging(nn.Module):
    """Adds what it computes to the enlarged image."""

    def __init__(self, last: nn.Module, clamped: bool) -> None:
        super().__init__()
        self.branch, self.clamped = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.PixelShuffle(2), last), clamped

    def forward(self, x: Tensor) -> Tensor:
        large = functional.interpolate(x, scale_factor=2, mode="bilinear") + self.branch(x)
        return large.clamp(0, 1) if self.clamped else large


def places(apart: bool) -> DataLoader[Any]:
    """A bright spot on noise, and where it is."""
    generator = torch.Generator().manual_seed(0)
    x = 0.1 * torch.randn(320, 1, 12, 12, generator=generator)
    at = torch.randint(1, 11, (320, 2), generator=generator)
    x[torch.arange(320), 0, at[:, 0], at[:, 1]] += 3
    y = at.float() / 12
    return DataLoader(TensorDataset(x, y[torch.randperm(320, generator=generator)] if apart else y), 16, shuffle=True)


def frame_of(text: str, **names: Any) -> Any:
    """Of a script whose names are these."""
    code = SimpleNamespace(co_filename=text, co_firstlineno=1, co_name="<module>")
    return SimpleNamespace(f_locals=names, f_globals=names, f_code=code, f_lineno=1)


class ResidualDenoiser(nn.Module):
    """`inside`: whether it adds the noise itself, in training."""

    def __init__(self, inside: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.inside = nn.Conv2d(1, 1, 3, padding=1), inside

    def forward(self, x: Tensor) -> Tensor:
        if self.inside and self.training:
            x = x + 0.3 * torch.randn_like(x)
        return x - self.net(x)


def gratings(count: int) -> Tensor:
    """Smooth pictures (N, 1, 8, 8)."""
    phases = 6 * torch.rand(count, 1, 1, generator=torch.Generator().manual_seed(0))
    return (phases + torch.linspace(0, 4, 8) * torch.ones(8, 1)).sin()[:, None]


def restored(check: Any, sigma: float, model: nn.Module) -> list[Any]:
    """What is said of a step that adds noise to pictures, of which the batches have nothing else."""

    def step(net: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        (clean,) = batch
        noisy = clean + sigma * torch.randn_like(clean) if sigma else clean
        optimizer.zero_grad()
        value = functional.mse_loss(net(noisy), clean)
        value.backward()
        optimizer.step()
        return value.detach()

    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 0.001), "step": step}
    options["val"] = DataLoader(TensorDataset(gratings(32)), 16)
    return asked_in_script(check, model, DataLoader(TensorDataset(gratings(96)), 16), **options)


SIZE, STRIDE = 32, 2


class Faces(Dataset[Any]):
    """Two equal eyes above a large mouth, (x, y), and maps of a half of the picture's sides."""

    def __init__(self, flips: bool, swaps: bool = True, stride: int = STRIDE, alike: bool = True) -> None:
        self.flips, self.swaps, self.stride, self.alike = flips, swaps, stride, alike
        middles = 12 + 8 * torch.rand(160, 2, generator=torch.Generator().manual_seed(0))
        self.points = middles[:, None] + torch.tensor([[-5.0, -4.0], [5.0, -4.0], [0.0, 5.0]])

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        points = self.points[number]
        grid = torch.arange(SIZE).float()
        heights = [1.0, 1.0 if self.alike else -1.0, 0.5]
        picture = sum(high * blob(grid, x, y, 1.5) for (x, y), high in zip(points.tolist(), heights, strict=True))
        if self.flips and torch.rand(()) < 0.5:
            picture, points = picture.flip(-1), torch.stack([SIZE - 1 - points[:, 0], points[:, 1]], 1)
            points = points[[1, 0, 2]] if self.swaps else points
        cells = torch.arange(SIZE // STRIDE).float()
        maps = torch.stack([blob(cells, x / self.stride, y / self.stride, 1.0) for x, y in points.tolist()])
        return picture[None], maps, points


def blob(grid: torch.Tensor, x: float, y: float, width: float) -> torch.Tensor:
    return torch.exp(-((grid[None] - x) ** 2 + (grid[:, None] - y) ** 2) / (2 * width**2))


def map_of_points() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))


def told_of_points(check: Any, data: Faces) -> list[Finding]:
    torch.manual_seed(0)
    found: list[Finding] = []
    with suppress(NoEvidence):
        found = asked(
            check, map_of_points(), DataLoader(data, 32, shuffle=True), val=DataLoader(Faces(flips=False), 32),
            loss=nn.MSELoss(), task="regress", step=step_of_points,
        )  # fmt: skip
    return found


def step_of_points(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> torch.Tensor:
    value = loss(model(batch[0]), batch[1])
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value.detach()
