"""Reading a pressure gauge (0 to 1000 kPa) from a photo: a regression in the style of a LightningModule."""

import math

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

READING_MEAN, READING_STD = 500.0, 289.0


def render_gauges(count, seed, size=24):
    """A needle between -135 and +135 degrees from the top; uint8 images and readings in kPa."""
    generator = torch.Generator().manual_seed(seed)
    readings = 1000 * torch.rand(count, generator=generator)
    angle = (readings / 1000 * 270 - 135) * math.pi / 180
    axis = torch.arange(size) - (size - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    dx, dy = torch.sin(angle).view(-1, 1, 1), -torch.cos(angle).view(-1, 1, 1)
    along = (x * dx + y * dy).clamp(0, 9)
    distance = ((x - along * dx) ** 2 + (y - along * dy) ** 2).sqrt()
    images = 0.1 + 0.8 * torch.exp(-((distance / 1.2) ** 2)) + 0.05 * torch.randn(distance.shape, generator=generator)
    return (images.clamp(0, 1) * 255).to(torch.uint8).unsqueeze(1), readings


def to_float(image):
    return image.float() / 255


class GaugeDataset(Dataset):
    def __init__(self, images, readings, transform, augment=False):
        self.images, self.transform, self.augment = images, transform, augment
        self.targets = (readings - READING_MEAN) / READING_STD

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, target = self.transform(self.images[index]), self.targets[index]
        image = (image - 0.16) / 0.19
        if self.augment:
            image = image + 0.1 * torch.randn_like(image)
        return image, target


class GaugeDataModule:
    def __init__(self, batch_size=40):
        self.batch_size = batch_size

    def setup(self):
        self.train_ds = GaugeDataset(*render_gauges(1200, seed=3), transform=to_float, augment=True)
        self.val_ds = GaugeDataset(*render_gauges(300, seed=4), transform=to_float)

    def train_dataloader(self):
        return DataLoader(self.train_ds, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_ds, batch_size=100)


class GaugeRegressor(nn.Module):
    def __init__(self, width=16, lr=2e-3):
        super().__init__()
        self.hparams = dict(width=width, lr=lr)
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.regressor = nn.Sequential(
            nn.Linear(2 * width * 6 * 6, 64),
            nn.ReLU(),
            nn.Linear(64, 1),
        )

    def forward(self, x):
        return self.regressor(self.features(x)).squeeze(-1)

    def training_step(self, batch, criterion):
        images, targets = batch
        return criterion(self(images), targets)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])


def fit_step(module, batch, optimizer, criterion):
    """What the trainer does with a batch."""
    module.train()
    loss = module.training_step(batch, criterion)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), max_norm=5.0)
    optimizer.step()
    return loss.detach()


def setup():
    torch.manual_seed(7)
    datamodule = GaugeDataModule()
    datamodule.setup()
    module = GaugeRegressor()
    return {
        "model": module,
        "train": datamodule.train_dataloader(),
        "val": datamodule.val_dataloader(),
        "loss": nn.SmoothL1Loss(beta=0.5),
        "optimizer": module.configure_optimizers(),
        "step": fit_step,
        "task": "regress",
    }
