"""Trainings that learn, but waste their time."""

from __future__ import annotations

import io
import time
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, Dataset, TensorDataset

from planted.case import Case, fault
from planted.learning import usual_step
from planted.networks import digits, mnist, prices, table, waves


class FromAfar(Dataset):
    """Each sample is asked for over a slow line."""

    def __init__(self, x: Tensor, y: Tensor, seconds: float) -> None:
        self.x, self.y, self.seconds = x, y, seconds

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        time.sleep(self.seconds)
        return self.x[index], self.y[index]


@fault("speed.input-bound")
def samples_that_arrive_after_a_millisecond(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    data = digits(seed)
    order = torch.Generator().manual_seed(seed)
    samples = TensorDataset(data.x, data.y) if fixed else FromAfar(data.x, data.y, 0.001)
    train = DataLoader(samples, 32, shuffle=True, generator=order)
    val = DataLoader(TensorDataset(data.x_val, data.y_val), 128)
    model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(144, 10))
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=3e-3))


class DecodedPictures(Dataset):
    """Pictures are enlarged, filtered and made small again, each time anew."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        low, high = x.min(), x.max()
        self.low, self.high = float(low), float(high)
        self.files = []
        for image in ((x - low) / (high - low) * 255).to(torch.uint8).numpy():
            file = io.BytesIO()
            Image.fromarray(image[0]).resize((192, 192)).save(file, "PNG", compress_level=1)
            self.files.append(file.getvalue())
        self.y = y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image = Image.open(io.BytesIO(self.files[index])).filter(ImageFilter.GaussianBlur(2))
        image = image.resize((28, 28), Image.Resampling.LANCZOS)
        x = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255) * (self.high - self.low) + self.low
        return {"image": x[None], "label": self.y[index]}


class Once(Dataset):
    """What a data set gives, kept."""

    def __init__(self, samples: Dataset) -> None:
        self.kept = [samples[i] for i in range(len(samples))]  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int) -> Any:
        return self.kept[index]


@fault("speed.input-bound")
def large_pictures_decoded_for_a_small_network(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    data = mnist(seed, train=256)
    samples: Dataset = DecodedPictures(data.x, data.y)
    if fixed:
        samples = Once(samples)
    train = DataLoader(samples, 32, shuffle=True, generator=torch.Generator().manual_seed(seed))
    model = nn.Sequential(nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(288, 10))

    def step(model: nn.Module, batch: dict[str, Tensor], optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        return usual_step(model, (batch["image"], batch["label"]), optimizer, loss)

    return Case(model, train, None, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=5e-3), step)


@fault("speed.sync-every-step")
def loss_of_each_sample_fetched_by_itself(seed: int, fixed: bool = False) -> Case:
    """A forward pass and an .item() a sample, where one for the batch would do."""
    torch.manual_seed(seed)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        if fixed:
            return usual_step(model, batch, optimizer, loss)
        images, labels = batch
        optimizer.zero_grad()
        total = 0.0
        for image, label in zip(images, labels, strict=True):
            value = loss(model(image[None]), label[None]) / len(images)
            value.backward()
            total += value.item()
        optimizer.step()
        return torch.tensor(total)

    model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(144, 10))
    train, val = digits(seed).loaders(64, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer, step)


@fault("speed.sync-every-step")
def histograms_of_all_weights_at_every_step(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(30, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 2))
    diary: dict[str, list[float]] = {}

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        value = usual_step(model, batch, optimizer, loss)
        if not fixed:
            for name, parameter in model.named_parameters():
                counts, edges = np.histogram(parameter.detach().cpu().numpy(), bins=50)
                diary[name] = [float(edges[counts.argmax()]), *parameter.grad.flatten().tolist()]
        return value

    train, val = table("breast_cancer", seed).loaders(32, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=1e-3), step)


@fault("speed.sync-every-step")
def every_gradient_checked_number_by_number(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value = loss(model(batch[0]), batch[1])
        value.backward()
        for parameter in model.parameters():
            if not fixed:
                for row in parameter.grad.flatten():
                    if row.item() != row.item():
                        raise ValueError("not a number")
            elif not parameter.grad.isfinite().all():
                raise ValueError("not a number")
        optimizer.step()
        return value

    model = nn.Sequential(nn.Conv1d(1, 16, 9, stride=2), nn.ReLU(), nn.Conv1d(16, 32, 5, stride=2), nn.ReLU())
    model.extend([nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 3)])
    train, val = waves(seed).loaders(50, seed)
    return Case(model, train, val, F.cross_entropy, lambda params: torch.optim.AdamW(params, lr=5e-3), step)


@fault("speed.small-batch")
def one_image_at_a_time(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(108, 32), nn.ReLU(), nn.Linear(32, 10)
    )
    train, val = digits(seed).loaders(32 if fixed else 1, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1 if fixed else 0.01)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer)


@fault("speed.small-batch")
def batches_of_two_signals(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    class Signal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv1d(1, 12, 9, stride=2)
            self.norm = nn.GroupNorm(3, 12)
            self.b = nn.Conv1d(12, 16, 5, stride=2)
            self.c = nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.norm(self.a(x)))
            return self.c(F.relu(self.b(x)).mean(2))

    model = Signal()
    train, val = waves(seed, train=1500).loaders(32 if fixed else 2, seed)
    return Case(model, train, val, F.cross_entropy, lambda params: torch.optim.Adam(params, lr=2e-3))


@fault("speed.slow-plan")
def anomaly_detection_left_on(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        with torch.autograd.set_detect_anomaly(not fixed):
            return usual_step(model, batch, optimizer, loss)

    layers: list[nn.Module] = [nn.Linear(13, 32)]
    for _ in range(4):
        layers += [nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 32)]
    model = nn.Sequential(*layers, nn.Linear(32, 1))
    train, val = prices(seed).loaders(20, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    return Case(model, train, val, nn.MSELoss(), optimizer, step, task="regress")


@fault("speed.slow-plan")
def double_precision_for_no_reason(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    kind = torch.float32 if fixed else torch.float64
    model = nn.Sequential()
    for inputs, outputs, stride in ((1, 16, 2), (16, 24, 2), (24, 24, 1), (24, 24, 1)):
        model.extend([nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU()])
    model.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10)]).to(kind)
    data = mnist(seed)
    train, val = (data if fixed else data.double()).loaders(32, seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer)


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(x + self.norm2(self.conv2(y)))


@fault("speed.slow-plan")
def large_convolutions_in_the_plain_layout(seed: int, fixed: bool = False) -> Case:
    """Big enough that bfloat16 and channels last are measured faster on processors that have them."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), Residual(32), nn.MaxPool2d(2), Residual(32))
    model.extend([nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, 10)])

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        x, y = batch
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(model(x.contiguous(memory_format=torch.channels_last)), y)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value

    if fixed:
        model = model.to(memory_format=torch.channels_last)
    train, val = mnist(seed).loaders(32, seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer, step if fixed else None)
