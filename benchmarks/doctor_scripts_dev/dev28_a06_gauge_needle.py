"""Read pressure gauges: one number, in bar, from a photograph of a dial."""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


@dataclass
class Config:
    train_size: int = 1280
    valid_size: int = 256
    test_size: int = 256
    batch_size: int = 32
    epochs: int = 24
    lr: float = 1.2e-3
    patience: int = 2
    factor: float = 0.1
    seed: int = 0


def photograph_gauges(count, seed, size=32):
    """Images in 0..1, and what the needles show: 0 bar lower left, clockwise to 10 bar lower right."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low, high):
        return low + (high - low) * torch.rand(count, 1, 1, generator=generator)

    y, x = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
    pressure = uniform(0, 10)
    angle = torch.deg2rad(225 - 27 * pressure)
    dy, dx = y - uniform(14.5, 16.5), x - uniform(14.5, 16.5)
    uy, ux = -torch.sin(angle), torch.cos(angle)
    along = torch.minimum((dx * ux + dy * uy).clamp(min=0), uniform(8, 10.5))
    gap = ((dx - along * ux) ** 2 + (dy - along * uy) ** 2).sqrt()
    needle = (1.7 - gap).clamp(0, 1)
    rim = (1.4 - ((dy**2 + dx**2).sqrt() - 13).abs()).clamp(0, 1)
    light = uniform(0.65, 0.9) + uniform(-0.15, 0.15) * (x / size - 0.5) + uniform(-0.15, 0.15) * (y / size - 0.5)
    image = light * (1 - 0.7 * needle) * (1 - 0.4 * rim)
    image = image + 0.04 * torch.randn(image.shape, generator=generator)
    return image.clamp(0, 1).unsqueeze(1), pressure.flatten()


class Standardizer:
    """Pressures to zero mean and unit spread."""

    def __init__(self, pressure):
        self.mean, self.std = pressure.mean().item(), pressure.std().item()

    def __call__(self, pressure):
        return (pressure - self.mean) / self.std


def make_net():
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(24, 40, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(40, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 96), nn.ReLU(),
        nn.Linear(96, 1),
    )


class Trainer:
    def __init__(self, config):
        self.config = config
        torch.manual_seed(config.seed)
        images, pressure = photograph_gauges(config.train_size, seed=100)
        self.standardize = Standardizer(pressure)
        self.pixel_mean, self.pixel_std = images.mean().item(), images.std().item()
        self.train_loader = self.load(images, pressure, shuffle=True)
        self.valid_loader = self.load(*photograph_gauges(config.valid_size, seed=200))
        self.test_loader = self.load(*photograph_gauges(config.test_size, seed=300))
        self.model = make_net()
        self.criterion = nn.MSELoss()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.lr)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizer, mode="min", factor=config.factor, patience=config.patience
        )
        self.best, self.best_state = float("inf"), None

    def load(self, images, pressure, shuffle=False):
        images = (images - self.pixel_mean) / self.pixel_std
        data = TensorDataset(images, self.standardize(pressure))
        return DataLoader(data, batch_size=self.config.batch_size, shuffle=shuffle)

    def step(self, images, targets):
        prediction = self.model(images).squeeze(1)
        loss = self.criterion(prediction, targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def error(self, loader):
        """The mean absolute error, in bar."""
        self.model.eval()
        total = count = 0
        for images, targets in loader:
            difference = self.model(images).flatten() - targets
            total += difference.abs().sum().item() * self.standardize.std
            count += len(targets)
        return total / count

    def run(self):
        for epoch in range(self.config.epochs):
            self.model.train()
            loss = sum(self.step(*batch) for batch in self.train_loader) / len(self.train_loader)
            valid_error = self.error(self.valid_loader)
            self.scheduler.step(valid_error)
            if valid_error < self.best:
                self.best, self.best_state = valid_error, copy.deepcopy(self.model.state_dict())
            rate = self.optimizer.param_groups[0]["lr"]
            print(f"epoch {epoch + 1:2d}  loss {loss:.4f}  valid error {valid_error:.3f} bar  lr {rate:.1e}")
        self.model.load_state_dict(self.best_state)
        print(f"best valid {self.best:.3f} bar, test error {self.error(self.test_loader):.3f} bar")


if __name__ == "__main__":
    torch.set_num_threads(1)
    Trainer(Config()).run()
