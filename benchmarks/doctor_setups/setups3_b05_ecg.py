"""Beat morphology from six-lead ECG strips: a data module and a module, in Lightning's manner."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

LENGTH, LEADS, RATE = 128, 6, 64
GAIN = np.array([1.0, 0.6, -0.8, 0.4, -0.5, 1.2])
CLASSES = ["normal", "wide QRS", "inverted T"]


def record(counts, seed):
    """Strips of two seconds in millivolt, (count, time, leads) as wfdb.rdsamp gives them, class after class."""
    rng = np.random.default_rng(seed)
    time = np.arange(LENGTH) / RATE
    signals, labels = [], []
    for label, count in enumerate(counts):
        width = 0.06 if label == 1 else 0.025
        t_wave = -0.35 if label == 2 else 0.35
        for _ in range(count):
            beats = rng.uniform(0, 0.6) + rng.uniform(0.6, 0.9) * np.arange(-1, 4)
            delta = time[:, None] - beats[None, :]
            wave = np.exp(-((delta / width) ** 2)).sum(1)
            wave = wave + t_wave * np.exp(-(((delta - 0.25) / 0.07) ** 2)).sum(1)
            signals.append(wave[:, None] * GAIN + 0.4 * rng.normal(size=(LENGTH, LEADS)))
            labels.append(label)
    return torch.tensor(np.stack(signals), dtype=torch.float32), torch.tensor(labels)


class ECGDataModule:
    def __init__(self, batch_size=32):
        self.batch_size = batch_size
        self.train_counts, self.val_counts = [800, 200, 80], [200, 60, 40]

    def prepare(self, signals):
        signals = (signals - self.mean) / self.std
        return signals.permute(0, 2, 1).contiguous()  # Conv1d wants (batch, leads, time)

    def setup(self):
        train_x, train_y = record(self.train_counts, seed=5)
        val_x, val_y = record(self.val_counts, seed=6)
        self.mean, self.std = train_x.mean((0, 1)), train_x.std((0, 1))
        self.train_set = TensorDataset(self.prepare(train_x), train_y)
        self.val_set = TensorDataset(self.prepare(val_x), val_y)

    def class_weights(self):
        counts = torch.tensor(self.train_counts, dtype=torch.float32)
        return counts.sum() / (len(counts) * counts)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100, shuffle=False)


class ResidualBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv1d(channels, channels, 5, padding=2, bias=False)
        self.bn1 = nn.BatchNorm1d(channels)
        self.conv2 = nn.Conv1d(channels, channels, 5, padding=2, bias=False)
        self.bn2 = nn.BatchNorm1d(channels)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(x + self.bn2(self.conv2(out)))


class LitECG(nn.Module):
    def __init__(self, channels=24, lr=0.02, weight_decay=1e-4):
        super().__init__()
        self.lr, self.weight_decay = lr, weight_decay
        self.stem = nn.Sequential(
            nn.Conv1d(LEADS, channels, 7, padding=3, bias=False), nn.BatchNorm1d(channels), nn.ReLU()
        )
        self.blocks = nn.Sequential(ResidualBlock(channels), nn.MaxPool1d(4), ResidualBlock(channels))
        self.head = nn.Linear(channels, len(CLASSES))

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean(-1))

    def training_step(self, batch, criterion):
        x, y = batch
        return criterion(self(x), y)

    def configure_optimizers(self, params):
        return torch.optim.SGD(params, lr=self.lr, momentum=0.9, nesterov=True, weight_decay=self.weight_decay)


def optimizer_step(model, batch, optimizer, loss):
    """What the loop of the Trainer does with one batch."""
    model.train()
    value = model.training_step(batch, loss)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value


def setup():
    torch.manual_seed(2024)
    data = ECGDataModule()
    data.setup()
    module = LitECG()
    return {
        "model": module,
        "train": data.train_dataloader(),
        "val": data.val_dataloader(),
        "loss": nn.CrossEntropyLoss(weight=data.class_weights()),
        "optimizer": module.configure_optimizers,
        "step": optimizer_step,
        "task": "classify",
    }
