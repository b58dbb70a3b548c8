"""Reading an analog gauge (regression) with a LightningModule-like class."""
import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset


def render_gauge(reading, size=20, noise=0.1, generator=None):
    """A needle from the center: 0 points to the lower left, 50 upwards, 100 to the lower right."""
    angle = (reading / 100 - 0.5) * 1.5 * math.pi
    axis = torch.arange(size) - (size - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    along = x * math.sin(angle) - y * math.cos(angle)
    across = x * math.cos(angle) + y * math.sin(angle)
    needle = ((across.abs() < 1.2) & (along > -1) & (along < 8)).float()
    return (needle + noise * torch.randn(size, size, generator=generator)).unsqueeze(0)


class GaugeDataset(Dataset):
    def __init__(self, count, seed, augment=False):
        generator = torch.Generator().manual_seed(seed)
        self.readings = 100 * torch.rand(count, generator=generator)
        self.images = torch.stack([render_gauge(r, generator=generator) for r in self.readings.tolist()])
        self.augment = augment

    def __len__(self):
        return len(self.readings)

    def __getitem__(self, index):
        image, reading = self.images[index], self.readings[index]
        if self.augment and torch.rand(()) < 0.5:
            image = image.flip(-1)
            reading = 100 - reading
        return image, reading


class GaugeDataModule:
    def __init__(self, batch_size):
        self.batch_size = batch_size
        self.train_set = GaugeDataset(1200, seed=0, augment=True)
        self.val_set = GaugeDataset(300, seed=1)
        self.mean, self.std = self.train_set.readings.mean(), self.train_set.readings.std()

    def collate(self, samples):
        images, readings = zip(*samples)
        target = (torch.stack(readings) - self.mean) / self.std
        return torch.stack(images), target

    def train_dataloader(self):
        return DataLoader(self.train_set, self.batch_size, shuffle=True, collate_fn=self.collate)

    def val_dataloader(self):
        return DataLoader(self.val_set, self.batch_size, collate_fn=self.collate)


class GaugeReader(nn.Module):
    def __init__(self, lr=0.01, momentum=0.9, weight_decay=1e-4, gradient_clip_val=5.0):
        super().__init__()
        self.hparams = dict(lr=lr, momentum=momentum, weight_decay=weight_decay, gradient_clip_val=gradient_clip_val)
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(32 * 5 * 5, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, x):
        return self.head(self.features(x)).squeeze(-1)

    def training_step(self, batch, criterion):
        x, y = batch
        y_hat = self(x)
        return criterion(y_hat, y)

    def configure_optimizers(self):
        return torch.optim.SGD(
            self.parameters(),
            lr=self.hparams["lr"],
            momentum=self.hparams["momentum"],
            weight_decay=self.hparams["weight_decay"],
        )


def criterion(y_hat, y):
    return F.mse_loss(y_hat, y)


def optimizer_step(model, batch, optimizer, loss):
    value = model.training_step(batch, loss)
    optimizer.zero_grad()
    value.backward()
    nn.utils.clip_grad_norm_(model.parameters(), model.hparams["gradient_clip_val"])
    optimizer.step()
    return value


def setup():
    torch.manual_seed(0)
    datamodule = GaugeDataModule(batch_size=40)
    model = GaugeReader()
    return dict(
        model=model,
        train=datamodule.train_dataloader(),
        val=datamodule.val_dataloader(),
        loss=criterion,
        optimizer=model.configure_optimizers(),
        step=optimizer_step,
        task="regress",
    )
