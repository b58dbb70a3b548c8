"""Twelve hours of demand from the two days before: an LSTM in Lightning."""

import tempfile

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

LOOKBACK = 48
HORIZON = 12


def hourly_demand(hours=1600, seed=5):
    """Grows slowly, follows the day and the week, and has noise that lasts for some hours."""
    rng = np.random.default_rng(seed)
    hour = np.arange(hours)
    noise = np.zeros(hours)
    for i in range(1, hours):
        noise[i] = 0.8 * noise[i - 1] + rng.normal()
    swing = 9 + 5 * hour / hours
    workday = np.where(hour // 24 % 7 < 5, 2.0, -2.0)
    return 60 + 6 * hour / hours + swing * np.sin(2 * np.pi * (hour - 8) / 24) + workday + noise


class Windows(Dataset):
    def __init__(self, values):
        self.values = torch.as_tensor(values, dtype=torch.float32)

    def __len__(self):
        return len(self.values) - LOOKBACK - HORIZON + 1

    def __getitem__(self, i):
        window = self.values[i : i + LOOKBACK + HORIZON]
        return window[:LOOKBACK].unsqueeze(-1), window[LOOKBACK:]


class DemandDataModule(L.LightningDataModule):
    def __init__(self, batch_size=32):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        series = hourly_demand()
        train, val, test = series[:1000], series[1000:1300], series[1300:]
        mean, std = train.mean(), train.std()
        self.train_set = Windows((train - mean) / std)
        self.val_set = Windows((val - mean) / std)
        self.test_set = Windows((test - mean) / std)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=self.batch_size)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=self.batch_size)


class Forecaster(L.LightningModule):
    def __init__(self, hidden=32, lr=5e-3):
        super().__init__()
        self.lr = lr
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, HORIZON)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.head(out[:, -1])

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.mse_loss(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", F.mse_loss(self(x), y))

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.log("test_mse", F.mse_loss(self(x), y))
        self.log("test_mse_of_yesterday", F.mse_loss(x[:, -24 : HORIZON - 24, 0], y))

    def on_train_epoch_end(self):
        rate = self.optimizers().param_groups[0]["lr"]
        print(f"epoch {self.current_epoch:2d} val_loss {self.trainer.callback_metrics['val_loss']:.4f} lr {rate:.1e}")

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.2, patience=1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}


def main():
    L.seed_everything(7)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = ModelCheckpoint(dirpath=folder, monitor="val_loss", mode="min", save_top_k=1)
        trainer = L.Trainer(
            max_epochs=15,
            accelerator="cpu",
            devices=1,
            logger=False,
            callbacks=[checkpoint],
            enable_progress_bar=False,
            enable_model_summary=False,
            gradient_clip_val=1.0,
            default_root_dir=folder,
        )
        model, data = Forecaster(), DemandDataModule()
        trainer.fit(model, datamodule=data)
        print("best val_loss", float(checkpoint.best_model_score))
        trainer.test(model, datamodule=data, ckpt_path="best")


if __name__ == "__main__":
    main()
