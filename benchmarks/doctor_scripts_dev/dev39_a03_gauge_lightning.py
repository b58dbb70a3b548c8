"""Reads a pressure gauge: one number from an image, with Lightning."""

import math
import tempfile

import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, Dataset

FULL_SCALE = 600.0  # bar; the needle goes from -135 degrees (0 bar) clockwise to 135
SIZE = 24


def draw_gauges(count, seed):
    generator = torch.Generator().manual_seed(seed)
    values = FULL_SCALE * torch.rand(count, generator=generator)
    angles = torch.deg2rad(-135 + 270 * values / FULL_SCALE).view(-1, 1, 1)
    grid = torch.arange(SIZE) - (SIZE - 1) / 2
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    along = x * torch.sin(angles) - y * torch.cos(angles)
    across = x * torch.cos(angles) + y * torch.sin(angles)
    needle = (1.6 - across.abs()).clamp(0, 1) * ((along > -1.5) & (along < 9)).float()
    rim = ((torch.hypot(x, y) - 11).abs() < 0.7).float()
    light = 0.7 + 0.3 * torch.rand(count, 1, 1, generator=generator)
    images = light * torch.maximum(needle, 0.6 * rim)
    images = images + 0.05 * torch.randn(images.shape, generator=generator)
    return images.clamp(0, 1).unsqueeze(1), values


class GaugeDataset(Dataset):
    def __init__(self, images, values, statistics, augment=False):
        self.images, self.values = images, values
        self.statistics, self.augment = statistics, augment

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        image, value = self.images[index], self.values[index]
        if self.augment:
            image = image * (0.8 + 0.4 * torch.rand(())) + 0.03 * torch.randn_like(image)
        image = (image - self.statistics["pixel_mean"]) / self.statistics["pixel_std"]
        target = (value - self.statistics["value_mean"]) / self.statistics["value_std"]
        return image, target


class GaugeReader(L.LightningModule):
    def __init__(self, value_std, lr=2e-3, weight_decay=1e-4, epochs=14):
        super().__init__()
        self.save_hyperparameters()
        self.convs = nn.ModuleList([nn.Conv2d(1, 16, 3, 2, 1), nn.Conv2d(16, 32, 3, 2, 1), nn.Conv2d(32, 32, 3, 1, 1)])
        self.hidden = nn.Linear(32 * (SIZE // 4) ** 2, 64)
        self.readout = nn.Linear(64, 1)

    def forward(self, x):
        for conv in self.convs:
            x = F.relu(conv(x))
        x = F.relu(self.hidden(x.flatten(1)))
        return self.readout(x).squeeze(1)

    def training_step(self, batch, batch_idx):
        images, targets = batch
        loss = F.mse_loss(self(images), targets)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def evaluation_step(self, batch, stage):
        images, targets = batch
        predictions = self(images)
        mae = (predictions - targets).abs().mean() * self.hparams.value_std
        self.log(f"{stage}_loss", F.mse_loss(predictions, targets))
        self.log(f"{stage}_mae", mae)

    def validation_step(self, batch, batch_idx):
        self.evaluation_step(batch, "val")

    def test_step(self, batch, batch_idx):
        self.evaluation_step(batch, "test")

    def on_train_epoch_end(self):
        metrics = self.trainer.callback_metrics
        print(f"epoch {self.current_epoch}: " + ", ".join(f"{k} {float(v):.4f}" for k, v in sorted(metrics.items())))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay
        )
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.hparams.epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def main():
    L.seed_everything(7)
    images, values = draw_gauges(1400, seed=3)
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(4))
    train, val, test = order[:1000], order[1000:1200], order[1200:]
    statistics = {
        "pixel_mean": images[train].mean().item(),
        "pixel_std": images[train].std().item(),
        "value_mean": values[train].mean().item(),
        "value_std": values[train].std().item(),
    }

    train_set = GaugeDataset(images[train], values[train], statistics, augment=True)
    val_set = GaugeDataset(images[val], values[val], statistics)
    test_set = GaugeDataset(images[test], values[test], statistics)

    model = GaugeReader(value_std=statistics["value_std"])
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = ModelCheckpoint(dirpath=folder, monitor="val_mae", mode="min")
        trainer = L.Trainer(
            max_epochs=model.hparams.epochs,
            accelerator="cpu",
            devices=1,
            callbacks=[checkpoint],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(
            model,
            DataLoader(train_set, batch_size=32, shuffle=True),
            DataLoader(val_set, batch_size=100),
        )
        result = trainer.test(model, DataLoader(test_set, batch_size=100), ckpt_path="best", verbose=False)[0]
    spread = math.sqrt(result["test_loss"])
    print(f"test: mean absolute error {result['test_mae']:.1f} bar of {FULL_SCALE:.0f}, scaled RMSE {spread:.3f}")


if __name__ == "__main__":
    main()
