"""Forecasts of the electric load for the next twelve hours, with Lightning."""

import lightning as L
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

CONTEXT, HORIZON = 48, 12


def make_load(hours, seed=0):
    """Hourly load of a region in megawatts: a day, a week, weather that changes slowly."""
    rng = np.random.default_rng(seed)
    t = np.arange(hours)
    day = 300 * np.sin(2 * np.pi * (t - 8) / 24) + 120 * np.sin(4 * np.pi * (t - 3) / 24)
    weekend = ((t // 24) % 7 >= 5).astype(float)
    weather = np.zeros(hours)
    for i in range(1, hours):
        weather[i] = 0.95 * weather[i - 1] + 15 * rng.standard_normal()
    load = 2000 + day * (1 - 0.4 * weekend) - 150 * weekend + weather + 8 * rng.standard_normal(hours)
    return t, load.astype(np.float32)


class Windows(Dataset):
    """Every window of CONTEXT hours with the HORIZON hours that follow it."""

    def __init__(self, features, targets):
        self.features = torch.as_tensor(features, dtype=torch.float32)
        self.targets = torch.as_tensor(targets, dtype=torch.float32)

    def __len__(self):
        return len(self.features) - CONTEXT - HORIZON + 1

    def __getitem__(self, index):
        end = index + CONTEXT
        return self.features[index:end], self.targets[end : end + HORIZON]


class LoadData(L.LightningDataModule):
    def __init__(self, hours=24 * 7 * 50, train_share=0.8, batch_size=64):
        super().__init__()
        self.batch_size = batch_size
        t, load = make_load(hours)
        split = int(hours * train_share)
        self.mean, self.std = float(load[:split].mean()), float(load[:split].std())
        scaled = (load - self.mean) / self.std
        clock, calendar = 2 * np.pi * t / 24, 2 * np.pi * t / (24 * 7)
        features = np.stack([scaled, np.sin(clock), np.cos(clock), np.sin(calendar), np.cos(calendar)], axis=1)
        targets = scaled
        # the past for training, what comes later for validation
        self.train_set = Windows(features[:split], targets[:split])
        self.val_set = Windows(features[split:], targets[split:])
        self.naive = float(np.abs(load[split + 24 :] - load[split:-24]).mean())

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=256)


class Forecaster(L.LightningModule):
    def __init__(self, scale, channels=5, width=48, max_lr=5e-3):
        super().__init__()
        self.scale = scale
        self.max_lr = max_lr
        self.gru = nn.GRU(channels, width, batch_first=True)
        self.head = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, HORIZON))
        self.error, self.count = 0.0, 0

    def forward(self, x):
        states, _ = self.gru(x)
        return self.head(states[:, -1])

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.mse_loss(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_validation_epoch_start(self):
        self.error, self.count = 0.0, 0

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.error += (self(x) - y).abs().sum().item() * self.scale
        self.count += y.numel()

    def on_validation_epoch_end(self):
        mae = self.error / self.count
        self.log("val_mae", mae)
        print(f"epoch {self.current_epoch + 1:2d}  validation error {mae:.1f} MW")

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.max_lr)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.max_lr,
            total_steps=int(self.trainer.estimated_stepping_batches),
            div_factor=100,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    torch.set_num_threads(1)
    L.seed_everything(0)
    data = LoadData()
    model = Forecaster(scale=data.std)
    trainer = L.Trainer(
        max_epochs=9,
        accelerator="cpu",
        devices=1,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, datamodule=data)
    mae = trainer.callback_metrics["val_mae"].item()
    print(f"error {mae:.1f} MW; the same hour of the day before would be off by {data.naive:.1f} MW")


if __name__ == "__main__":
    main()
