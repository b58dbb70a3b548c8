"""Age from (drawn) faces, as a LightningModule with its DataModule."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


def draw_faces(count, seed, size=24):
    """A head that grows with age, and wrinkles that deepen with it."""
    g = torch.Generator().manual_seed(seed)
    age = 1 + 89 * torch.rand(count, generator=g)
    center = size / 2 + 2 * torch.rand(count, 2, 1, 1, generator=g) - 1.5
    y, x = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
    distance = ((y - center[:, 0]) ** 2 + (x - center[:, 1]) ** 2).sqrt()
    share = (age / 90)[:, None, None]
    head = torch.sigmoid(2 * (6 + 4 * share - distance))
    image = head * (0.7 - 0.35 * share * (torch.sin(2.1 * y) > 0))
    image = image + 0.05 * torch.randn(image.shape, generator=g)
    return image[:, None].clamp(0, 1), age


class AgeDataset(Dataset):
    def __init__(self, images, ages, age_mean, age_std, augment=False):
        self.images, self.ages = images, ages
        self.age_mean, self.age_std = age_mean, age_std
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = (self.images[idx] - 0.3) / 0.28
        if self.augment and torch.rand(()) < 0.5:
            image = image.flip(-1)
        age = self.ages[idx]
        return image, (age - self.age_mean) / self.age_std


class AgeDataModule:
    def __init__(self, batch_size=32):
        self.batch_size = batch_size

    def setup(self):
        images, ages = draw_faces(1200, seed=0)
        stats = float(ages.mean()), float(ages.std())
        self.train_set = AgeDataset(images, ages, *stats, augment=True)
        self.val_set = AgeDataset(*draw_faces(300, seed=1), *stats)

    def train_dataloader(self):
        return DataLoader(self.train_set, self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, 100)


def conv_block(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1), nn.BatchNorm2d(cout), nn.ReLU(), nn.MaxPool2d(2))


class AgeRegressor(nn.Module):
    """LightningModule"""

    def __init__(self, learning_rate=2e-3, weight_decay=1e-4, dropout=0.1):
        super().__init__()
        self.hparams = dict(learning_rate=learning_rate, weight_decay=weight_decay)
        self.backbone = nn.Sequential(conv_block(1, 12), conv_block(12, 24), conv_block(24, 48))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Sequential(nn.Linear(48 * 3 * 3, 48), nn.ReLU(), nn.Linear(48, 1))
        self.logged = {}

    def log(self, name, value):
        self.logged[name] = value.detach()

    def forward(self, x):
        z = self.dropout(self.backbone(x).flatten(1))
        return self.head(z).squeeze(-1)

    @staticmethod
    def criterion(y_hat, y):
        return F.smooth_l1_loss(y_hat, y)

    def training_step(self, batch, batch_idx=0):
        x, y = batch
        loss = self.criterion(self(x), y)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(
            self.parameters(),
            lr=self.hparams["learning_rate"],
            weight_decay=self.hparams["weight_decay"],
        )


def optimizer_step(module, batch, optimizer, loss_fn):
    """What Trainer does with one batch."""
    module.train()
    optimizer.zero_grad()
    loss = module.training_step(batch)
    loss.backward()
    optimizer.step()
    return loss


def setup():
    torch.manual_seed(7)
    dm = AgeDataModule()
    dm.setup()
    module = AgeRegressor()
    return {
        "model": module,
        "train": dm.train_dataloader(),
        "val": dm.val_dataloader(),
        "loss": AgeRegressor.criterion,
        "optimizer": module.configure_optimizers(),
        "step": optimizer_step,
        "task": "regress",
    }
