"""Estimate the area of a cell (in square micrometers) from a picture of it, with Lightning."""

import lightning as L
import torch
from sklearn.metrics import r2_score
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import Shapes

PIXEL_UM = 12.5  # side of a pixel in micrometers


def load_cells(count=1000, size=24):
    shapes = Shapes(train=True, count=count, size=size)
    images = (torch.stack(shapes.images) - 0.5) / 0.2
    pixels = torch.stack([(mask > 0).sum() for mask in shapes.masks]).float()
    return images, pixels * PIXEL_UM**2


def conv_block(inputs, outputs, stride):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class AreaRegressor(L.LightningModule):
    def __init__(self, target_mean, target_std, learning_rate=2e-3):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(
            conv_block(3, 16, stride=2),
            conv_block(16, 32, stride=2),
            conv_block(32, 32, stride=1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.regressor = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
        self.predictions, self.references = [], []

    def forward(self, x):
        return self.regressor(self.encoder(x)).squeeze(1)

    def standardize(self, area):
        return (area - self.hparams.target_mean) / self.hparams.target_std

    def to_area(self, output):
        return output.float() * self.hparams.target_std + self.hparams.target_mean

    def training_step(self, batch, batch_idx):
        x, area = batch
        loss = F.mse_loss(self(x), self.standardize(area))
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(x))
        return loss

    def validation_step(self, batch, batch_idx):
        x, area = batch
        output = self(x)
        self.log("val_loss", F.mse_loss(output, self.standardize(area)), batch_size=len(x))
        self.predictions.append(self.to_area(output))
        self.references.append(area.float())

    def on_validation_epoch_end(self):
        predicted, reference = torch.cat(self.predictions), torch.cat(self.references)
        self.log("val_mae", (predicted - reference).abs().mean())
        self.log("val_r2", float(r2_score(reference.cpu().numpy(), predicted.cpu().numpy())))
        self.predictions.clear()
        self.references.clear()

    def on_train_epoch_end(self):
        shown = {name: round(float(value), 4) for name, value in self.trainer.callback_metrics.items()}
        print(f"epoch {self.current_epoch}: {shown}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.learning_rate, weight_decay=1e-4)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


if __name__ == "__main__":
    L.seed_everything(7)

    images, area = load_cells()
    n = len(images)
    n_train = int(0.8 * n)
    order = torch.randperm(n)
    idx_train, idx_val = order[:n_train], order[n_train:]

    train_loader = DataLoader(TensorDataset(images[idx_train], area[idx_train]), batch_size=32, shuffle=True)
    val_loader = DataLoader(TensorDataset(images[idx_val], area[idx_val]), batch_size=100)

    area_mean, area_std = area[idx_train].mean().item(), area[idx_train].std().item()
    print(f"{len(idx_train)} cells to train with, {area_mean:.0f} +- {area_std:.0f} square micrometers")

    model = AreaRegressor(target_mean=area_mean, target_std=area_std)
    trainer = L.Trainer(
        max_epochs=20,
        accelerator="cpu",
        devices=1,
        precision="32-true",
        gradient_clip_val=5.0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, train_loader, val_loader)
    result = trainer.validate(model, val_loader, verbose=False)[0]
    print(f"validation: MAE {result['val_mae']:.0f} square micrometers, R2 {result['val_r2']:.3f}")
