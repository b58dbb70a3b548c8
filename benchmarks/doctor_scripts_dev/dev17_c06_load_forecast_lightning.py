"""Forecast of the next half day of an electric load from the three days before, with Lightning."""
import logging
import tempfile
import warnings

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, Dataset

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def simulate_load(hours=24 * 7 * 26, seed=3):
    """Hourly load: daily and weekly rhythm, a slow drift, noise that remembers, some readings lost."""
    rng = np.random.default_rng(seed)
    t = np.arange(hours)
    daily = 30 * np.sin(2 * np.pi * t / 24 - 1.2) + 12 * np.sin(4 * np.pi * t / 24)
    weekend = np.where((t // 24) % 7 >= 5, -25.0, 0.0)
    drift = 15 * np.sin(2 * np.pi * t / (24 * 7 * 9))
    noise = np.zeros(hours)
    for i in range(1, hours):
        noise[i] = 0.8 * noise[i - 1] + rng.normal(0, 4)
    load = 200 + daily + weekend + drift + noise
    load[rng.random(hours) < 0.01] = np.nan
    index = pd.date_range("2023-01-02", periods=hours, freq="h")
    return pd.Series(load, index=index, name="load")


class WindowDataset(Dataset):
    def __init__(self, series, lookback, horizon):
        self.series = torch.as_tensor(series, dtype=torch.float32)
        self.lookback, self.horizon = lookback, horizon

    def __len__(self):
        return len(self.series) - self.lookback - self.horizon + 1

    def __getitem__(self, i):
        past = self.series[i : i + self.lookback]
        future = self.series[i + self.lookback : i + self.lookback + self.horizon]
        return past, future


class LoadDataModule(L.LightningDataModule):
    def __init__(self, lookback=72, horizon=12, batch_size=64):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        hp = self.hparams
        values = simulate_load().ffill().bfill().to_numpy()
        cut = int(0.8 * len(values))
        self.mean, self.std = values[:cut].mean(), values[:cut].std()
        values = (values - self.mean) / self.std
        self.train_set = WindowDataset(values[:cut], hp.lookback, hp.horizon)
        self.val_set = WindowDataset(values[cut:], hp.lookback, hp.horizon)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=256)


class LoadForecaster(L.LightningModule):
    def __init__(self, lookback=72, horizon=12, hidden=64, lr=2e-3, max_steps=1000, scale=1.0):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(nn.Linear(lookback, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.head = nn.Linear(hidden, horizon)
        self.skip = nn.Linear(lookback, horizon)
        self.loss_fn = nn.MSELoss()

    def forward(self, past):
        return self.head(self.encoder(past)) + self.skip(past)

    def training_step(self, batch, batch_idx):
        past, future = batch
        loss = self.loss_fn(self(past), future)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        past, future = batch
        forecast = self(past)
        naive = past[:, -24 : -24 + self.hparams.horizon]
        self.log("val_loss", self.loss_fn(forecast, future), batch_size=len(past))
        self.log("val_mae", (forecast - future).abs().mean() * self.hparams.scale, batch_size=len(past))
        self.log("naive_mae", (naive - future).abs().mean() * self.hparams.scale, batch_size=len(past))

    def on_validation_epoch_end(self):
        if self.trainer.sanity_checking:
            return
        metrics = {k: f"{v.item():.4f}" for k, v in self.trainer.callback_metrics.items()}
        print(f"epoch {self.current_epoch}: {metrics}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-3)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.hparams.lr, total_steps=self.hparams.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(7)
    epochs = 15
    data = LoadDataModule()
    data.setup()
    model = LoadForecaster(max_steps=epochs * len(data.train_dataloader()), scale=float(data.std))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = ModelCheckpoint(dirpath=folder, monitor="val_mae", mode="min", save_top_k=1)
        stopper = EarlyStopping(monitor="val_loss", mode="min", patience=6)
        trainer = L.Trainer(
            max_epochs=epochs,
            accelerator="auto",
            devices=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            gradient_clip_val=1.0,
            callbacks=[checkpoint, stopper],
        )
        trainer.fit(model, datamodule=data)
        print("best checkpoint:", checkpoint.best_model_score)
        trainer.validate(model, datamodule=data, ckpt_path="best", verbose=False)
    print({k: round(v.item(), 4) for k, v in trainer.callback_metrics.items()})


if __name__ == "__main__":
    main()
