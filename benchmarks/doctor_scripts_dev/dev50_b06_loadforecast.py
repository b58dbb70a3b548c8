"""Next-hour load forecasting with a recurrent network."""

import tempfile

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, Dataset


def simulate_load(hours=1600, seed=7):
    """Load, temperature, and the hour of the day as sine and cosine."""
    rng = np.random.default_rng(seed)
    t = np.arange(hours)
    temperature = np.zeros(hours)
    for i in range(1, hours):
        temperature[i] = 0.95 * temperature[i - 1] + rng.normal(scale=0.5)
    day = 2 * np.pi * t / 24
    load = 50 + 12 * np.sin(day) + 5 * np.sin(2 * day + 1) + 2 * temperature + rng.normal(scale=0.7, size=hours)
    return np.stack([load, temperature, np.sin(day), np.cos(day)], axis=1).astype(np.float32)


class WindowDataset(Dataset):
    def __init__(self, values, lookback):
        self.values = torch.from_numpy(values)
        self.lookback = lookback

    def __len__(self):
        return len(self.values) - self.lookback

    def __getitem__(self, index):
        x = self.values[index : index + self.lookback]
        y = self.values[index + self.lookback, 0]
        return x, y


class LoadDataModule(L.LightningDataModule):
    def __init__(self, lookback=24, batch_size=64):
        super().__init__()
        self.lookback = lookback
        self.batch_size = batch_size
        raw = simulate_load()
        self.train_end, self.val_end = int(0.7 * len(raw)), int(0.85 * len(raw))
        self.mean = raw[: self.train_end].mean(axis=0)
        self.std = raw[: self.train_end].std(axis=0)
        self.values = (raw - self.mean) / self.std

    def setup(self, stage=None):
        self.train_set = WindowDataset(self.values[: self.train_end], self.lookback)
        self.val_set = WindowDataset(self.values[self.train_end : self.val_end], self.lookback)
        self.test_set = WindowDataset(self.values[self.val_end :], self.lookback)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=self.batch_size)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=self.batch_size)


class Forecaster(L.LightningModule):
    def __init__(self, n_features=4, hidden=32, lr=5e-3, load_std=1.0):
        super().__init__()
        self.save_hyperparameters()
        self.rnn = nn.GRU(n_features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)
        self.loss = nn.MSELoss()

    def forward(self, x):
        out, _ = self.rnn(x)
        return self.head(out[:, -1]).squeeze(-1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = self.loss(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        mae = (self(x) - y).abs().mean() * self.hparams.load_std
        self.log("val_mae", mae, batch_size=len(y))

    def test_step(self, batch, batch_idx):
        x, y = batch
        mae = (self(x) - y).abs().mean() * self.hparams.load_std
        naive = (x[:, -1, 0] - y).abs().mean() * self.hparams.load_std
        self.log_dict({"test_mae": mae, "persistence_mae": naive}, batch_size=len(y))

    def on_train_epoch_end(self):
        metrics = self.trainer.callback_metrics
        print(
            f"epoch {self.current_epoch:2d}  train_loss {metrics['train_loss'].item():.4f}  "
            f"val_mae {metrics['val_mae'].item():.4f}"
        )

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.hparams.lr,
            total_steps=int(self.trainer.estimated_stepping_batches),
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def main():
    L.seed_everything(11)
    datamodule = LoadDataModule()
    model = Forecaster(load_std=float(datamodule.std[0]))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = ModelCheckpoint(dirpath=folder, monitor="val_mae", mode="min", save_top_k=1)
        trainer = L.Trainer(
            max_epochs=15,
            accelerator="cpu",
            devices=1,
            logger=False,
            callbacks=[checkpoint],
            default_root_dir=folder,
            gradient_clip_val=1.0,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, datamodule=datamodule)
        print("best val_mae:", float(checkpoint.best_model_score))
        results = trainer.test(model, datamodule=datamodule, ckpt_path="best", verbose=False)[0]
    print(f"test MAE {results['test_mae']:.3f} (last value repeated: {results['persistence_mae']:.3f})")


if __name__ == "__main__":
    main()
