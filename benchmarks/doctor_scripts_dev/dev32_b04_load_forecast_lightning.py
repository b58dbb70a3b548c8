"""Forecast the next twelve hours of power demand from the last two days, with Lightning."""

import lightning as L
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

WINDOW, HORIZON = 48, 12


def power_demand(hours=3600, seed=2):
    rng = np.random.default_rng(seed)
    t = np.arange(hours)
    daily = 12 * np.sin(2 * np.pi * t / 24) + 4 * np.sin(4 * np.pi * t / 24 + 0.7)
    weekly = 6 * np.sin(2 * np.pi * t / 168)
    noise = np.zeros(hours)
    for i in range(1, hours):
        noise[i] = 0.9 * noise[i - 1] + rng.normal(0, 0.8)
    return torch.tensor(50 + daily + weekly + noise, dtype=torch.float32)


class Windows(Dataset):
    def __init__(self, series, starts):
        self.series, self.starts = series, list(starts)

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, index):
        start = self.starts[index]
        end = start + WINDOW
        return self.series[start:end].unsqueeze(-1), self.series[end : end + HORIZON]


class DemandData(L.LightningDataModule):
    def __init__(self, batch_size=64):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        raw = power_demand()
        split = int(0.8 * len(raw))
        self.mean, self.std = raw[:split].mean().item(), raw[:split].std().item()
        series = (raw - self.mean) / self.std
        span = WINDOW + HORIZON
        train_starts = range(0, split - span + 1)
        val_starts = range(split, len(series) - span + 1)
        self.train_set = Windows(series, train_starts)
        self.val_set = Windows(series, val_starts)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=128)


class Forecaster(L.LightningModule):
    def __init__(self, std, hidden=48, lr=3e-3):
        super().__init__()
        self.std, self.lr = std, lr
        self.gru = nn.GRU(1, hidden, batch_first=True)
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, HORIZON))
        self.criterion = nn.MSELoss()
        self.train_losses, self.abs_error, self.numbers = [], 0.0, 0

    def forward(self, x):
        states, _ = self.gru(x)
        return self.head(states[:, -1])

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = self.criterion(self(x), y)
        self.train_losses.append(loss.item())
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        prediction = self(x)
        self.abs_error += (prediction - y).abs().sum().item() * self.std
        self.numbers += y.numel()

    def on_validation_epoch_end(self):
        mae = self.abs_error / self.numbers
        train_loss = sum(self.train_losses) / max(1, len(self.train_losses))
        print(f"epoch {self.current_epoch:2d}  train MSE {train_loss:.4f}  val MAE {mae:.3f} MW")
        self.train_losses, self.abs_error, self.numbers = [], 0.0, 0

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def main():
    L.seed_everything(1)
    data = DemandData()
    data.setup()
    x = torch.stack([data.val_set[i][0].squeeze(-1) for i in range(len(data.val_set))])
    y = torch.stack([data.val_set[i][1] for i in range(len(data.val_set))])
    naive = (x[:, WINDOW - 24 : WINDOW - 24 + HORIZON] - y).abs().mean().item() * data.std
    print(f"same hours of yesterday: val MAE {naive:.3f} MW")

    model = Forecaster(std=data.std)
    trainer = L.Trainer(
        max_epochs=24,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
    )
    trainer.fit(model, datamodule=data)


if __name__ == "__main__":
    main()
