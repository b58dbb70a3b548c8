"""Tabular regression with a LightningModule and a data module."""
import argparse

import lightning as L
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


def make_houses(n, seed=0):
    """House-like rows: area, rooms, age, distance, district (category), and a price in thousands."""
    rng = np.random.default_rng(seed)
    area = rng.gamma(9.0, 12.0, n)
    rooms = np.clip(np.round(area / 25 + rng.normal(0, 0.8, n)), 1, None)
    age = rng.uniform(0, 80, n)
    distance = rng.exponential(6.0, n)
    district = rng.integers(0, 5, n)
    level = np.array([0.8, 1.0, 1.15, 1.4, 1.9])[district]
    price = level * (2.6 * area + 9 * rooms) * np.exp(-0.06 * distance) * (1 - 0.004 * age) + rng.normal(0, 12, n)
    numeric = np.stack([area, rooms, age, distance], 1).astype(np.float32)
    return numeric, district.astype(np.int64), price.astype(np.float32)


class HouseData(L.LightningDataModule):
    def __init__(self, batch_size=64, n=4000):
        super().__init__()
        self.batch_size, self.n = batch_size, n

    def setup(self, stage=None):
        numeric, district, price = make_houses(self.n)
        cut = int(0.8 * self.n)
        self.x_mean, self.x_std = numeric[:cut].mean(0), numeric[:cut].std(0)
        self.y_mean, self.y_std = float(price[:cut].mean()), float(price[:cut].std())
        x = torch.from_numpy((numeric - self.x_mean) / self.x_std)
        y = torch.from_numpy((price - self.y_mean) / self.y_std)
        d = torch.from_numpy(district)
        self.train_set = TensorDataset(x[:cut], d[:cut], y[:cut])
        self.val_set = TensorDataset(x[cut:], d[cut:], y[cut:])

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=256)


class PriceRegressor(L.LightningModule):
    def __init__(self, y_mean, y_std, lr=3e-3, hidden=96, weight_decay=1e-4, max_epochs=12):
        super().__init__()
        self.save_hyperparameters()
        self.district = nn.Embedding(5, 4)
        self.net = nn.Sequential(
            nn.Linear(8, hidden), nn.BatchNorm1d(hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.05),
            nn.Linear(hidden, 1))
        self.se, self.seen, self.var = 0.0, 0, 0.0

    def forward(self, numeric, district):
        x = torch.cat([numeric, self.district(district)], dim=1)
        return self.net(x).squeeze(-1)

    def training_step(self, batch, batch_idx):
        numeric, district, target = batch
        pred = self(numeric, district)
        loss = F.smooth_l1_loss(pred, target)
        self.log("train_loss", loss)
        return loss

    def on_validation_epoch_start(self):
        self.se, self.seen, self.var = 0.0, 0, 0.0

    def validation_step(self, batch, batch_idx):
        numeric, district, target = batch
        pred = self(numeric, district)
        price = pred * self.hparams.y_std + self.hparams.y_mean
        true = target * self.hparams.y_std + self.hparams.y_mean
        self.se += ((price - true) ** 2).sum().item()
        self.var += ((true - self.hparams.y_mean) ** 2).sum().item()
        self.seen += len(target)

    def on_validation_epoch_end(self):
        rmse = (self.se / self.seen) ** 0.5
        print(f"epoch {self.current_epoch} val_rmse {rmse:.2f} val_r2 {1 - self.se / self.var:.4f}", flush=True)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.hparams.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-epochs", type=int, default=9)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--clip", type=float, default=1.0)
    args = parser.parse_args()
    L.seed_everything(3, verbose=False)
    data = HouseData(args.batch_size)
    data.setup()
    model = PriceRegressor(data.y_mean, data.y_std, lr=args.lr, max_epochs=args.max_epochs)
    trainer = L.Trainer(
        max_epochs=args.max_epochs, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, gradient_clip_val=args.clip)
    trainer.fit(model, datamodule=data)


if __name__ == "__main__":
    main()
