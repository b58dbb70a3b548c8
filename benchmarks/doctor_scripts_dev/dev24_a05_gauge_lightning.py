"""Reading pressure gauges from photos: a CNN with one output, with Lightning (semester project, group 7)."""

import math

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

# The scale of the gauges goes from 0 to 1000 kPa; the network learns standardized values.
KPA_MEAN, KPA_STD = 500.0, 290.0


def draw_gauges(count, size=24, seed=0):
    """Photos of gauges: a bright face, a dark needle from -135 degrees (0 kPa) to +135 degrees (1000 kPa)."""
    generator = torch.Generator().manual_seed(seed)
    kpa = 1000 * torch.rand(count, generator=generator)
    angle = (math.radians(-135) + kpa / 1000 * math.radians(270))[:, None, None]
    center = (size - 1) / 2 + 2 * torch.rand(count, 2, generator=generator) - 1
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    dx = x[None] - center[:, 0, None, None]
    dy = y[None] - center[:, 1, None, None]
    along = dx * torch.sin(angle) - dy * torch.cos(angle)
    across = dx * torch.cos(angle) + dy * torch.sin(angle)
    needle = ((along > -1) & (along < 9) & (across.abs() < 1)).float()
    face = (dx**2 + dy**2 < 11**2).float()
    photos = 0.3 + 0.5 * face - 0.6 * needle
    photos = photos + 0.05 * torch.randn(photos.shape, generator=generator)
    return photos.clamp(0, 1).unsqueeze(1), kpa


class GaugeDataset(Dataset):
    def __init__(self, count, seed, augment=False):
        self.photos, kpa = draw_gauges(count, seed=seed)
        self.targets = (kpa - KPA_MEAN) / KPA_STD
        self.augment = augment

    def __len__(self):
        return len(self.photos)

    def __getitem__(self, index):
        photo = self.photos[index]
        if self.augment:
            photo = photo * (0.9 + 0.2 * torch.rand(()))  # brightness
        photo = (photo - 0.5) / 0.3
        return photo, self.targets[index]


class GaugeData(L.LightningDataModule):
    def __init__(self, batch_size=32):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        self.train_set = GaugeDataset(1600, seed=1, augment=True)
        self.val_set = GaugeDataset(320, seed=2)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=64)


class GaugeReader(L.LightningModule):
    def __init__(self, lr=1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 3 * 3, 64),
            nn.ReLU(),
            nn.Linear(64, 1),
        )
        self.val_errors = []
        self.train_losses = []

    def forward(self, x):
        return self.net(x).squeeze(1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.mse_loss(self(x), y)
        self.train_losses.append(loss.detach())
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        error = (self(x) - y).abs() * KPA_STD
        self.val_errors.append(error)

    def on_validation_epoch_end(self):
        errors = torch.cat(self.val_errors)
        train_loss = torch.stack(self.train_losses).mean() if self.train_losses else torch.tensor(0.0)
        self.val_errors.clear()
        self.train_losses.clear()
        self.log("val_mae", errors.mean())
        print(
            f"epoch {self.current_epoch}: train loss {train_loss.item():.4f}, "
            f"val MAE {errors.mean().item():.1f} kPa, worst {errors.max().item():.0f} kPa"
        )

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def main():
    L.seed_everything(7)
    data = GaugeData()
    model = GaugeReader(lr=1e-3)
    trainer = L.Trainer(
        max_epochs=20,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, datamodule=data)

    model.eval()
    photos = torch.stack([data.val_set[i][0] for i in range(5)])
    targets = torch.stack([data.val_set[i][1] for i in range(5)])
    with torch.no_grad():
        readings = model(photos).flatten() * KPA_STD + KPA_MEAN
    for reading, target in zip(readings.tolist(), (targets.flatten() * KPA_STD + KPA_MEAN).tolist()):
        print(f"read {reading:6.0f} kPa, true {target:6.0f} kPa")


if __name__ == "__main__":
    main()
