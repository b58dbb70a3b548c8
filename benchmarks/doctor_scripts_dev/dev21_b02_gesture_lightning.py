"""Gestures from a wrist accelerometer (three axes, in milli-g), with a 1D CNN in Lightning.

Each subject records each gesture once; recordings are cut into windows that overlap by half.
Whole subjects are held out for validation.
"""

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

GESTURES = ["circle_left", "circle_right", "shake", "tap", "lift", "lower"]
RATE, WINDOW, HOP = 50, 96, 48
SUBJECTS, VAL_SUBJECTS = 16, [3, 7, 11, 15]
JITTER_MG = 40.0


def record(gesture, rng, pace, gain, tilt, samples=1200):
    """One recording of one gesture: samples x 3 axes."""
    turns = pace * np.arange(samples) / RATE + rng.uniform()
    angle, part = 2 * np.pi * turns, turns % 1
    zero = np.zeros(samples)
    axes = {
        "circle_left": (np.cos(angle), np.sin(angle), 0.2 * np.sin(2 * angle)),
        "circle_right": (np.cos(angle), -np.sin(angle), 0.2 * np.sin(2 * angle)),
        "shake": (np.sign(np.sin(2 * angle)), 0.3 * np.sin(2 * angle), zero),
        "tap": (zero, 0.2 * np.exp(-8 * part), 2 * np.exp(-8 * part)),
        "lift": (zero, 0.3 * np.cos(angle), 2 * part - 1),
        "lower": (zero, 0.3 * np.cos(angle), 1 - 2 * part),
    }[gesture]
    return 300 * gain * np.stack(axes, axis=1) + tilt + rng.normal(0, 80, (samples, 3))


def read_recordings(seed=0):
    rng = np.random.default_rng(seed)
    windows, names, subjects = [], [], []
    for subject in range(SUBJECTS):
        pace, gain = rng.uniform(1.5, 2.5), rng.uniform(0.7, 1.3)
        tilt = np.array([rng.uniform(-150, 150), rng.uniform(-150, 150), 1000.0])
        for gesture in rng.permutation(GESTURES):  # everyone in an order of their own
            signal = record(str(gesture), rng, pace, gain, tilt)
            for start in range(0, len(signal) - WINDOW + 1, HOP):
                windows.append(signal[start : start + WINDOW])
                names.append(str(gesture))
                subjects.append(subject)
    return np.stack(windows).astype(np.float32), np.array(names), np.array(subjects)


def encode_labels(names):
    index = {name: i for i, name in enumerate(GESTURES)}
    return torch.tensor([index[name] for name in names])


class WindowDataset(Dataset):
    def __init__(self, windows, labels, mean, std, augment=False):
        self.windows = torch.from_numpy(windows).permute(0, 2, 1).contiguous()  # N x axes x time
        self.labels, self.augment = labels, augment
        self.mean, self.std = mean, std

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        window = self.windows[index]
        if self.augment:
            window = window + JITTER_MG * torch.randn_like(window)
        window = (window - self.mean) / self.std
        return window, self.labels[index]


class GestureData(L.LightningDataModule):
    def __init__(self, batch_size=32):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        windows, names, subjects = read_recordings()
        held_out = np.isin(subjects, VAL_SUBJECTS)
        train, val = windows[~held_out], windows[held_out]
        mean = torch.from_numpy(train.mean(axis=(0, 1))).view(3, 1)
        std = torch.from_numpy(train.std(axis=(0, 1))).view(3, 1)
        self.train_set = WindowDataset(train, encode_labels(names[~held_out]), mean, std, augment=True)
        self.val_set = WindowDataset(val, encode_labels(names[held_out]), mean, std)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=128)


class ConvBlock(nn.Module):
    def __init__(self, inputs, outputs, kernel):
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x):
        return F.max_pool1d(F.relu(self.norm(self.conv(x))), 2)


class GestureNet(L.LightningModule):
    def __init__(self, lr=3e-3, widths=(48, 96, 96), kernels=(7, 5, 5)):
        super().__init__()
        self.save_hyperparameters()
        channels = (3, *widths)
        self.blocks = nn.ModuleList([ConvBlock(channels[i], channels[i + 1], kernels[i]) for i in range(len(widths))])
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(widths[-1], len(GESTURES))
        self.train_losses, self.correct, self.seen = [], 0, 0

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(self.dropout(x.mean(dim=-1)))

    def training_step(self, batch, batch_idx):
        signals, labels = batch
        loss = F.cross_entropy(self(signals), labels)
        self.train_losses.append(loss.detach())
        return loss

    def validation_step(self, batch, batch_idx):
        signals, labels = batch
        self.correct += (self(signals).argmax(dim=1) == labels).sum().item()
        self.seen += len(labels)

    def on_validation_epoch_end(self):
        train_loss = torch.stack(self.train_losses).mean()
        print(f"epoch {self.current_epoch:2d}  train loss {train_loss:.4f}  val acc {self.correct / self.seen:.4f}")
        self.train_losses, self.correct, self.seen = [], 0, 0

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-3)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.lr, total_steps=self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


if __name__ == "__main__":
    L.seed_everything(7)
    trainer = L.Trainer(
        max_epochs=26,
        accelerator="cpu",
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(GestureNet(), datamodule=GestureData())
