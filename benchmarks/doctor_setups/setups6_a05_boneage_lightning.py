"""Bone age in days from toy radiographs: a LightningModule and a LightningDataModule without Lightning."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class RadiographDataset(Dataset):
    """Two bones on a dark ground. With age they grow, and the growth plate between them closes."""

    def __init__(self, n, seed, size=24, mean=None, std=None):
        g = torch.Generator().manual_seed(seed)
        self.days = 365 + 6205 * torch.rand(n, generator=g)
        self.images = torch.zeros(n, 1, size, size)
        for i, days in enumerate(self.days.tolist()):
            age = (days - 365) / 6205
            center = size / 2 + 2 * float(torch.rand((), generator=g) - 0.5)
            gap = 3.0 * (1 - age) + 0.3 * float(torch.rand((), generator=g))
            length, width = 4 + 5 * age, 3 + 3 * age
            y = torch.arange(size).float().unsqueeze(1) - size / 2
            x = torch.arange(size).float().unsqueeze(0) - center
            inside = torch.sigmoid(4 * (width / 2 - x.abs()))
            along = torch.sigmoid(4 * (y.abs() - gap / 2)) * torch.sigmoid(4 * (length + gap / 2 - y.abs()))
            self.images[i, 0] = (0.6 + 0.2 * torch.rand((), generator=g)) * inside * along
        self.images += 0.05 * torch.randn(self.images.shape, generator=g)
        self.mean = float(self.days.mean()) if mean is None else mean
        self.std = float(self.days.std()) if std is None else std

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = (self.images[idx] - 0.12) / 0.24
        target = (self.days[idx] - self.mean) / self.std
        return image, target


class BoneAgeDataModule:
    def __init__(self, batch_size=50):
        self.batch_size = batch_size

    def setup(self, stage="fit"):
        self.train_set = RadiographDataset(1000, seed=7)
        self.val_set = RadiographDataset(250, seed=8, mean=self.train_set.mean, std=self.train_set.std)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=self.batch_size)


class LitBoneAge(nn.Module):
    def __init__(self, lr=2e-3, weight_decay=1e-4, width=16, mean=0.0, std=1.0):
        super().__init__()
        self.lr, self.weight_decay, self.mean, self.std = lr, weight_decay, mean, std
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
        )
        self.regressor = nn.Sequential(
            nn.Flatten(),
            nn.Linear(2 * width * 6 * 6, 64),
            nn.ReLU(),
            nn.Linear(64, 1),
        )

    def forward(self, x):
        out = self.regressor(self.encoder(x))
        return out.squeeze(-1)

    def criterion(self, preds, targets):
        return F.smooth_l1_loss(preds, targets)

    def training_step(self, batch, criterion):
        x, y = batch
        preds = self(x)
        loss = criterion(preds, y)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)


def optimizer_step(model, batch, optimizer, loss):
    """What the trainer does around training_step, with gradient_clip_val=10."""
    optimizer.zero_grad()
    value = model.training_step(batch, loss)
    value.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 10.0)
    optimizer.step()
    return value


def setup():
    torch.manual_seed(1234)
    dm = BoneAgeDataModule()
    dm.setup("fit")
    model = LitBoneAge(mean=dm.train_set.mean, std=dm.train_set.std)
    return dict(
        model=model,
        train=dm.train_dataloader(),
        val=dm.val_dataloader(),
        loss=model.criterion,
        optimizer=model.configure_optimizers(),
        step=optimizer_step,
        task="regress",
    )
