"""Forecast the electric load of the next hours from the last two days, with PyTorch Lightning."""

import logging
import warnings

import lightning as L
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, random_split  # noqa: F401

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", ".*does not have many workers.*")


def simulate_load(hours=24 * 7 * 32, seed=4):
    """Hourly load in megawatts: daily and weekly pattern, a wandering level, calm and stormy weeks."""
    rng = np.random.default_rng(seed)
    t = np.arange(hours)
    daily = 120 * np.sin(2 * np.pi * (t - 8) / 24) + 45 * np.sin(4 * np.pi * (t - 3) / 24)
    weekend = (t // 24 % 7) >= 5
    volatility = np.where(t // (24 * 7) % 4 == 3, 36.0, 9.0)
    level, noise = np.zeros(hours), np.zeros(hours)
    shocks = rng.standard_normal((hours, 2))
    for i in range(1, hours):
        level[i] = 0.999 * level[i - 1] + 3.0 * shocks[i, 0]
        noise[i] = 0.7 * noise[i - 1] + volatility[i] * shocks[i, 1]
    load = 700 + np.where(weekend, 0.6, 1.0) * daily - 60 * weekend + level + noise
    return load.astype(np.float32), t


class Windows(Dataset):
    """Pairs of `context` hours of features and the `horizon` hours of load that follow."""

    def __init__(self, features, context, horizon):
        self.features = torch.from_numpy(features)
        self.context, self.horizon = context, horizon

    def __len__(self):
        return len(self.features) - self.context - self.horizon + 1

    def __getitem__(self, start):
        middle = start + self.context
        return self.features[start:middle], self.features[middle : middle + self.horizon, 0]


class LoadData(L.LightningDataModule):
    def __init__(self, context=48, horizon=12, batch_size=64):
        super().__init__()
        self.context, self.horizon, self.batch_size = context, horizon, batch_size
        self.load, t = simulate_load()
        n = len(self.load)
        self.cuts = (0, int(0.65 * n), int(0.82 * n), n)
        self.mean, self.std = float(self.load[: self.cuts[1]].mean()), float(self.load[: self.cuts[1]].std())
        hour, weekend = 2 * np.pi * t / 24, (t // 24 % 7) >= 5
        columns = [(self.load - self.mean) / self.std, np.sin(hour), np.cos(hour), weekend]
        self.features = np.stack(columns, axis=1).astype(np.float32)

    def setup(self, stage):
        a, b, c, d = self.cuts
        self.train_set = Windows(self.features[a:b], self.context, self.horizon)
        self.val_set = Windows(self.features[b:c], self.context, self.horizon)
        self.test_set = Windows(self.features[c:d], self.context, self.horizon)

    def train_dataloader(self):
        return DataLoader(self.train_set, self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, self.batch_size)

    def test_dataloader(self):
        return DataLoader(self.test_set, self.batch_size)


class Forecaster(L.LightningModule):
    def __init__(self, n_features, horizon, scale, hidden=48, max_lr=6e-3):
        super().__init__()
        self.save_hyperparameters()
        self.rnn = nn.GRU(n_features, hidden, batch_first=True)
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, horizon))
        self.criterion = nn.MSELoss()

    def forward(self, x):
        states, _ = self.rnn(x)
        return self.head(states[:, -1])

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = self.criterion(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def evaluation_step(self, batch, stage):
        x, y = batch
        error = (self(x) - y) * self.hparams.scale
        self.log(f"{stage}_mse", error.square().mean(), batch_size=len(x))
        self.log(f"{stage}_mae", error.abs().mean(), batch_size=len(x))

    def validation_step(self, batch, batch_idx):
        self.evaluation_step(batch, "val")

    def test_step(self, batch, batch_idx):
        self.evaluation_step(batch, "test")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.max_lr, weight_decay=1e-4)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.max_lr, total_steps=self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class PrintMetrics(L.Callback):
    def on_train_epoch_end(self, trainer, module):
        m = trainer.callback_metrics
        val_rmse = m["val_mse"].sqrt()
        print(f"epoch {trainer.current_epoch}: train {m['train_loss']:.4f}  val rmse {val_rmse:.1f} MW  mae {m['val_mae']:.1f} MW")


def main():
    L.seed_everything(3, verbose=False)
    data = LoadData()
    model = Forecaster(n_features=data.features.shape[1], horizon=data.horizon, scale=data.std)
    trainer = L.Trainer(
        max_epochs=8,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[PrintMetrics()],
    )
    trainer.fit(model, data)
    result = trainer.test(model, data, verbose=False)[0]
    test_rmse = result["test_mse"] ** 0.5

    # the same hour of the day before, for comparison
    held_out = data.load[data.cuts[2] :]
    naive = held_out[24:] - held_out[:-24]
    print(f"test rmse {test_rmse:.1f} MW  mae {result['test_mae']:.1f} MW")
    print(f"same hour yesterday: rmse {np.sqrt((naive**2).mean()):.1f} MW  mae {np.abs(naive).mean():.1f} MW")


if __name__ == "__main__":
    main()
