"""Electricity load six hours ahead from the last two days: an LSTM as a LightningModule."""

import tempfile

import lightning as L
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

WINDOW, LEAD = 48, 6
FEATURES = ["load_scaled", "weekend"]


def simulate_load(hours=1800, seed=7):
    rng = np.random.default_rng(seed)
    index = pd.date_range("2023-01-02", periods=hours, freq="h")
    hour = index.hour.to_numpy()
    weekend = (index.dayofweek.to_numpy() >= 5).astype(float)
    drift = np.zeros(hours)
    for t in range(1, hours):
        drift[t] = 0.9 * drift[t - 1] + rng.normal(0, 4)
    load = 340 + 70 * np.sin(2 * np.pi * (hour - 8) / 24) + 20 * np.sin(4 * np.pi * hour / 24) - 35 * weekend
    return pd.DataFrame({"load": load + drift + rng.normal(0, 3, hours), "weekend": weekend}, index=index)


def make_windows(frame):
    features = frame[FEATURES].to_numpy(np.float32)
    target = frame["load_scaled"].to_numpy(np.float32)
    xs, ys = [], []
    for start in range(len(frame) - WINDOW - LEAD + 1):
        stop = start + WINDOW
        xs.append(features[start:stop])
        ys.append(target[stop + LEAD - 1])
    return torch.from_numpy(np.stack(xs)), torch.from_numpy(np.array(ys))


class LoadData(L.LightningDataModule):
    def __init__(self, batch_size=64):
        super().__init__()
        self.batch_size = batch_size
        frame = simulate_load()
        first, second = int(0.7 * len(frame)), int(0.85 * len(frame))
        past = frame["load"].iloc[:first]
        self.mean, self.std = float(past.mean()), float(past.std())
        frame["load_scaled"] = (frame["load"] - self.mean) / self.std
        self.parts = {"fit": frame.iloc[:first], "val": frame.iloc[first:second], "test": frame.iloc[second:]}

    def setup(self, stage=None):
        self.sets = {name: TensorDataset(*make_windows(part)) for name, part in self.parts.items()}

    def train_dataloader(self):
        return DataLoader(self.sets["fit"], batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.sets["val"], batch_size=256)

    def test_dataloader(self):
        return DataLoader(self.sets["test"], batch_size=256)


class LoadForecaster(L.LightningModule):
    def __init__(self, hidden=48, lr=1e-2, scale=1.0):
        super().__init__()
        self.save_hyperparameters()
        self.rnn = nn.LSTM(len(FEATURES), hidden, batch_first=True)
        self.head = nn.Sequential(nn.Linear(hidden, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        states, _ = self.rnn(x)
        return self.head(states[:, -1]).squeeze(-1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.mse_loss(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_mae", self.hparams.scale * F.l1_loss(self(x), y))

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.log("test_mae", self.hparams.scale * F.l1_loss(self(x), y))
        yesterday = x[:, LEAD - 1 - 24, 0]
        self.log("test_mae_same_hour_yesterday", self.hparams.scale * F.l1_loss(yesterday, y))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.lr, total_steps=self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(3)
    data = LoadData()
    model = LoadForecaster(scale=data.std)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = ModelCheckpoint(dirpath=folder, monitor="val_mae", mode="min", save_top_k=1)
        trainer = L.Trainer(
            max_epochs=18,
            accelerator="cpu",
            devices=1,
            callbacks=[checkpoint],
            gradient_clip_val=1.0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(model, datamodule=data)
        print(f"best validation MAE {float(checkpoint.best_model_score):.2f} MW")
        trainer.test(model, datamodule=data, ckpt_path="best")


if __name__ == "__main__":
    main()
