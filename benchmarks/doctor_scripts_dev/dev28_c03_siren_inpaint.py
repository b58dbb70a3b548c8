"""An image as a function of its coordinates (sine activations), judged on pixels that it never saw."""
import math
from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class Config:
    side: int = 128
    width: int = 64
    depth: int = 3
    omega: float = 15.0
    batch: int = 512
    epochs: int = 80
    lr: float = 5e-4
    held_out: float = 0.2


class Sine(nn.Module):
    def __init__(self, inputs, outputs, omega, first=False):
        super().__init__()
        self.omega = omega
        self.linear = nn.Linear(inputs, outputs)
        bound = 1 / inputs if first else math.sqrt(6 / inputs) / omega
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x):
        return torch.sin(self.omega * self.linear(x))


class Siren(nn.Module):
    def __init__(self, config):
        super().__init__()
        layers = [Sine(2, config.width, config.omega, first=True)]
        layers += [Sine(config.width, config.width, config.omega) for _ in range(config.depth - 1)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(config.width, 3)
        nn.init.uniform_(self.head.weight, -math.sqrt(6 / config.width) / config.omega, math.sqrt(6 / config.width) / config.omega)

    def forward(self, x):
        return self.head(self.body(x))


def paint(side):
    """A smooth picture: bands that bend, two lamps, a vignette. Colors of -1 to 1."""
    axis = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    red = torch.sin(6 * x + 2 * torch.sin(4 * y))
    green = torch.cos(5 * y - 3 * x * y) * (1 - 0.4 * (x**2 + y**2))
    lamp = torch.exp(-12 * ((x - 0.4) ** 2 + (y + 0.3) ** 2)) + torch.exp(-20 * ((x + 0.5) ** 2 + (y - 0.5) ** 2))
    blue = 1.6 * lamp - 0.6
    coordinates = torch.stack([x, y], -1).view(-1, 2)
    colors = torch.stack([red, green, blue], -1).view(-1, 3).clamp(-1, 1)
    return coordinates, colors


def psnr(model, coordinates, colors):
    with torch.no_grad():
        error = (model(coordinates) - colors).pow(2).mean()
    return 10 * torch.log10(4 / error).item()


def run(config):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    coordinates, colors = paint(config.side)
    order = torch.randperm(len(coordinates))
    cut = int(len(order) * config.held_out)
    hidden, shown = order[:cut], order[cut:]

    model = Siren(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, betas=(0.9, 0.99))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)
    baseline = 10 * torch.log10(4 / (colors[hidden] - colors[shown].mean(0)).pow(2).mean()).item()
    print(f"{len(shown)} pixels to learn, {len(hidden)} held out; the mean color has {baseline:.2f} dB")

    for epoch in range(config.epochs):
        losses = []
        for rows in shown[torch.randperm(len(shown))].split(config.batch):
            loss = (model(coordinates[rows]) - colors[rows]).pow(2).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        scheduler.step()
        print(f"epoch {epoch + 1:3d}  mse {sum(losses) / len(losses):.5f}  held-out PSNR {psnr(model, coordinates[hidden], colors[hidden]):.2f} dB")


if __name__ == "__main__":
    run(Config())
