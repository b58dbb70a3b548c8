"""Reading analog pressure gauges from images: regression with Lightning."""

import math

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

FULL_SCALE = 250_000.0  # pascal


def render_gauges(count, size=24, seed=0):
    """Images of needles between -120 and 120 degrees, and the pressures they show, in pascal."""
    g = torch.Generator().manual_seed(seed)
    pressure = FULL_SCALE * torch.rand(count, generator=g)
    angle = (pressure / FULL_SCALE * 240 - 120) * math.pi / 180
    grid = torch.arange(size).float() - (size - 1) / 2
    center = 2 * torch.rand(count, 2, 1, 1, generator=g) - 1
    y = grid[None, :, None] - center[:, 0]
    x = grid[None, None, :] - center[:, 1]
    dx, dy = torch.sin(angle)[:, None, None], -torch.cos(angle)[:, None, None]
    along, across = x * dx + y * dy, x * dy - y * dx
    length = 7 + 2 * torch.rand(count, 1, 1, generator=g)
    needle = torch.exp(-((across / 0.9) ** 2)) * ((along > 0) & (along < length))
    ring = torch.exp(-((((x**2 + y**2).sqrt() - 10) / 0.7) ** 2))
    images = 0.8 * needle + 0.4 * ring + 0.08 * torch.randn(count, size, size, generator=g)
    return images.clamp(0, 1).unsqueeze(1), pressure


class GaugeData(L.LightningDataModule):
    def __init__(self, batch_size=32):
        super().__init__()
        self.batch_size = batch_size
        train_x, train_y = render_gauges(2000, seed=0)
        val_x, val_y = render_gauges(400, seed=1)
        mean, std = train_x.mean(), train_x.std()
        self.train_y = train_y
        self.train_set = TensorDataset((train_x - mean) / std, train_y)
        self.val_set = TensorDataset((val_x - mean) / std, val_y)

    def train_dataloader(self):
        return DataLoader(self.train_set, self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, 100)


class GaugeReader(L.LightningModule):
    """Predicts standardized pressures; errors are reported in pascal."""

    def __init__(self, target_mean, target_std, lr=3e-3):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 6 * 6, 64), nn.ReLU(),
            nn.Linear(64, 1),
        )
        self.train_losses, self.errors = [], []

    def forward(self, x):
        return self.net(x).squeeze(1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        target = (y - self.hparams.target_mean) / self.hparams.target_std
        loss = F.mse_loss(self(x), target)
        self.train_losses.append(loss.item())
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        pressure = self(x) * self.hparams.target_std + self.hparams.target_mean
        self.errors.append((pressure - y).abs())

    def on_validation_epoch_end(self):
        mae = torch.cat(self.errors).mean().item()
        loss = sum(self.train_losses) / max(len(self.train_losses), 1)
        self.log("val_mae", mae)
        print(
            f"epoch {self.current_epoch}: loss {loss:.4f} val MAE {mae:.0f} Pa ({100 * mae / FULL_SCALE:.2f} % of scale)",
            flush=True,
        )
        self.train_losses.clear()
        self.errors.clear()

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-4)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.lr, total_steps=int(self.trainer.estimated_stepping_batches), div_factor=250
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(1)
    data = GaugeData()
    model = GaugeReader(data.train_y.mean().item(), data.train_y.std().item())
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
    trainer.fit(model, datamodule=data)
    print(f"final val MAE {float(trainer.callback_metrics['val_mae']):.0f} Pa")


if __name__ == "__main__":
    main()
