"""Quantile regression of house prices with Lightning: a pinball loss of one's own, targets in standard units."""

import logging
import warnings

import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

QUANTILES = (0.1, 0.5, 0.9)


class HousesDataModule(L.LightningDataModule):
    def __init__(self, batch_size=64):
        super().__init__()
        self.batch_size = batch_size
        train_x, train_y = houses(4000, seed=0)
        val_x, val_y = houses(800, seed=1)
        self.x_mean, self.x_std = train_x.mean(0), train_x.std(0)
        self.y_mean, self.y_std = train_y.mean(), train_y.std()
        self.train_set = TensorDataset((train_x - self.x_mean) / self.x_std, (train_y - self.y_mean) / self.y_std)
        self.val_set = TensorDataset((val_x - self.x_mean) / self.x_std, (val_y - self.y_mean) / self.y_std)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=200)


class QuantileNet(nn.Module):
    """Median, and distances to the outer quantiles that cannot be negative, so that quantiles never cross."""

    def __init__(self, features=8, hidden=128):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(features, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 3)
        )

    def forward(self, x):
        down, middle, up = self.body(x).unbind(dim=1)
        return torch.stack([middle - F.softplus(down), middle, middle + F.softplus(up)], dim=1)


def pinball_loss(predicted, target, quantiles):
    error = target.unsqueeze(1) - predicted
    return torch.maximum(quantiles * error, (quantiles - 1) * error).sum(dim=1).mean()


class QuantileRegressor(L.LightningModule):
    def __init__(self, y_mean, y_std, lr=2e-3, max_epochs=40):
        super().__init__()
        self.net = QuantileNet()
        self.lr, self.max_epochs = lr, max_epochs
        self.register_buffer("quantiles", torch.tensor(QUANTILES))
        self.register_buffer("y_mean", y_mean.clone())
        self.register_buffer("y_std", y_std.clone())
        self.outputs = []

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = pinball_loss(self.net(x), y, self.quantiles)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.outputs.append((self.net(x), y))

    def on_validation_epoch_end(self):
        predicted = torch.cat([p for p, _ in self.outputs]) * self.y_std + self.y_mean
        target = torch.cat([t for _, t in self.outputs]) * self.y_std + self.y_mean
        self.outputs.clear()
        mae = (predicted[:, 1] - target).abs().mean()
        inside = ((target >= predicted[:, 0]) & (target <= predicted[:, 2])).float().mean()
        r2 = 1 - ((predicted[:, 1] - target) ** 2).sum() / ((target - target.mean()) ** 2).sum()
        print(f"epoch {self.current_epoch:2d}  val MAE {mae:.2f}  R2 {r2:.4f}  coverage of 80%: {inside:.3f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=1e-3)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.max_epochs, eta_min=1e-5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def main():
    L.seed_everything(0)
    data = HousesDataModule()
    model = QuantileRegressor(data.y_mean, data.y_std)
    trainer = L.Trainer(
        max_epochs=model.max_epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        gradient_clip_val=5.0,
    )
    trainer.fit(model, datamodule=data)


if __name__ == "__main__":
    main()
