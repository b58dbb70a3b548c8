"""Signals of four kinds, with a module in the manner of Lightning (mixup in `training_step`)."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves


class WaveDataModule:
    def __init__(self, batch_size=64):
        self.batch_size = batch_size

    def setup(self):
        # recordings come kind by kind, as they lie in the folders
        self.train_set = self.by_kind(*waves(1200, seed=0))
        self.val_set = self.by_kind(*waves(300, seed=1))

    @staticmethod
    def by_kind(signals, labels):
        order = torch.argsort(labels)
        return TensorDataset(signals[order], labels[order])

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)


def conv_block(inputs, outputs, kernel_size=7):
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm1d(outputs),
        nn.ReLU(),
        nn.MaxPool1d(2),
    )


class LitWaves(nn.Module):
    def __init__(self, channels=16, num_classes=4, lr=3e-3, weight_decay=1e-4, mixup_alpha=0.4, dropout=0.2):
        super().__init__()
        self.lr, self.weight_decay, self.mixup_alpha = lr, weight_decay, mixup_alpha
        self.features = nn.Sequential(
            conv_block(1, channels), conv_block(channels, 2 * channels), conv_block(2 * channels, 2 * channels)
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(2 * channels, num_classes)
        )

    def forward(self, x):
        return self.head(self.features(x))

    def mixup(self, x, y):
        lam = float(torch.distributions.Beta(self.mixup_alpha, self.mixup_alpha).sample())
        index = torch.randperm(x.size(0))
        mixed = lam * x + (1 - lam) * x[index]
        return mixed, y, y[index], lam

    def training_step(self, batch):
        x, y = batch
        x, y_a, y_b, lam = self.mixup(x, y)
        logits = self(x)
        return lam * F.cross_entropy(logits, y_a) + (1 - lam) * F.cross_entropy(logits, y_b)

    def validation_step(self, batch):
        x, y = batch
        logits = self(x)
        return {"val_loss": F.cross_entropy(logits, y), "val_acc": (logits.argmax(1) == y).float().mean()}

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)


def fit_step(model, batch, optimizer, loss):
    """What `Trainer.fit` does with each batch: the loss is that of `training_step`."""
    model.train()
    value = model.training_step(batch)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value


def setup():
    torch.manual_seed(7)
    data = WaveDataModule()
    data.setup()
    model = LitWaves()
    return {
        "model": model,
        "train": data.train_dataloader(),
        "val": data.val_dataloader(),
        "optimizer": model.configure_optimizers(),
        "step": fit_step,
    }
