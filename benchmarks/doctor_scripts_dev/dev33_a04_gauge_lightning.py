"""Reading an analog gauge (0 to 100) from a picture of it, with Lightning."""

import lightning as L
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


def draw_gauges(count, seed, size=24):
    rng = np.random.default_rng(seed)
    readings = rng.uniform(0, 100, count)
    angle = np.deg2rad(readings * 2.7 - 135.0)  # 0 lower left, 50 up, 100 lower right
    yy, xx = np.mgrid[0:size, 0:size].astype(np.float64)
    cx, cy = (size - 1) / 2 + rng.uniform(-1, 1, (2, count, 1, 1))
    dx, dy = xx - cx, yy - cy
    ux, uy = np.sin(angle)[:, None, None], -np.cos(angle)[:, None, None]
    along = dx * ux + dy * uy
    across = np.abs(dx * uy - dy * ux)
    needle = ((along > -1) & (along < 9)) * np.clip(1.6 - across, 0, 1)
    rim = 0.5 * np.clip(1.5 - np.abs(np.hypot(dx, dy) - 10.5), 0, 1)
    contrast = rng.uniform(0.6, 0.9, (count, 1, 1))
    images = 0.1 + contrast * np.maximum(needle, rim) + rng.normal(0, 0.04, dx.shape)
    images = (np.clip(images, 0, 1) - 0.25) / 0.25
    return torch.from_numpy(images).float().unsqueeze(1), torch.from_numpy(readings).float()


class GaugeData(L.LightningDataModule):
    def __init__(self, batch_size=32):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        images, readings = draw_gauges(2000, seed=3)
        self.train_set = TensorDataset(images[:1600], readings[:1600])
        self.val_set = TensorDataset(images[1600:], readings[1600:])

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)


def conv(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU())


class GaugeReader(L.LightningModule):
    def __init__(self, max_lr=3e-3, center=50.0, spread=28.9):
        super().__init__()
        self.save_hyperparameters()
        self.backbone = nn.Sequential(
            conv(1, 16), nn.MaxPool2d(2), conv(16, 32), nn.MaxPool2d(2), conv(32, 32), nn.Flatten()
        )
        self.head = nn.Sequential(nn.Linear(32 * 6 * 6, 64), nn.ReLU(), nn.Linear(64, 1))
        self.val_errors = []

    def forward(self, x):
        return self.head(self.backbone(x)).squeeze(1)

    def training_step(self, batch, batch_idx):
        x, reading = batch
        x = x + 0.1 * torch.randn_like(x)  # sensor noise
        target = (reading - self.hparams.center) / self.hparams.spread
        loss = F.smooth_l1_loss(self(x), target)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, reading = batch
        predicted = self(x) * self.hparams.spread + self.hparams.center
        self.val_errors.append((predicted - reading).abs())

    def on_validation_epoch_end(self):
        errors = torch.cat(self.val_errors)
        self.val_errors.clear()
        self.log("val_mae", errors.mean())
        close = (errors < 5).float().mean()
        print(f"epoch {self.current_epoch:2d}  val_mae {errors.mean():.2f}  within 5: {close:.3f}", flush=True)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.max_lr, weight_decay=1e-4)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.hparams.max_lr,
            total_steps=int(self.trainer.estimated_stepping_batches),
            div_factor=100,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(7)
    trainer = L.Trainer(
        max_epochs=18,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(GaugeReader(), datamodule=GaugeData())
    print("final val_mae:", round(float(trainer.callback_metrics["val_mae"]), 2))


if __name__ == "__main__":
    main()
