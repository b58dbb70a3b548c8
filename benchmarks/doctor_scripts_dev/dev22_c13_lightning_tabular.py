"""Prices of flats from categories and numbers, with Lightning: embeddings, a target in units of its spread, MAE in thousands."""

import lightning as L
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CARDINALITIES = {"district": 20, "kind": 5, "month": 12}
NUMBERS = ["area", "age", "floor", "distance"]


def make_table(count, seed, world_seed=0):
    """The effects are those of one world; the flats are drawn by another seed."""
    world = np.random.default_rng(world_seed)
    district = world.normal(0, 45, CARDINALITIES["district"])
    kind = world.uniform(0.7, 1.4, CARDINALITIES["kind"])
    month = 8 * np.sin(2 * np.pi * np.arange(12) / 12)

    rng = np.random.default_rng(seed)
    categories = np.stack([rng.integers(0, size, count) for size in CARDINALITIES.values()], axis=1)
    area = rng.gamma(9, 9, count) + 20
    age = rng.uniform(0, 90, count)
    floor = rng.integers(0, 12, count).astype(float)
    distance = rng.exponential(2500, count)
    numbers = np.stack([area, age, floor, distance], axis=1)
    price = 60 + district[categories[:, 0]] + 2.0 * area * kind[categories[:, 1]] + month[categories[:, 2]]
    price += 0.02 * (age - 45) ** 2 + 2 * floor + 60 * np.exp(-distance / 2000) + rng.normal(0, 6, count)
    return torch.from_numpy(categories).long(), torch.from_numpy(numbers).float(), torch.from_numpy(price).float()


class FlatsData(L.LightningDataModule):
    def __init__(self, batch_size=64, train_count=5000, valid_count=1000):
        super().__init__()
        self.batch_size = batch_size
        self.train, self.valid = make_table(train_count, seed=1), make_table(valid_count, seed=2)
        numbers, price = self.train[1], self.train[2]
        self.mean, self.std = numbers.mean(0), numbers.std(0)
        self.price_mean, self.price_std = price.mean().item(), price.std().item()

    def dataset(self, table):
        categories, numbers, price = table
        return TensorDataset(categories, (numbers - self.mean) / self.std, (price - self.price_mean) / self.price_std)

    def train_dataloader(self):
        return DataLoader(self.dataset(self.train), batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.dataset(self.valid), batch_size=250)


class TabularRegressor(L.LightningModule):
    def __init__(self, cardinalities, numbers, price_std, hidden=(128, 64), dropout=0.05, max_lr=4e-3):
        super().__init__()
        self.save_hyperparameters()
        widths = [min(16, (size + 1) // 2) for size in cardinalities]
        self.embeddings = nn.ModuleList(nn.Embedding(size, width) for size, width in zip(cardinalities, widths))
        for embedding in self.embeddings:
            nn.init.normal_(embedding.weight, std=0.1)
        layers, inner = [], sum(widths) + numbers
        for outer in hidden:
            layers += [nn.Linear(inner, outer), nn.BatchNorm1d(outer), nn.ReLU(), nn.Dropout(dropout)]
            inner = outer
        layers.append(nn.Linear(inner, 1))
        self.mlp = nn.Sequential(*layers)
        self.criterion = nn.SmoothL1Loss(beta=0.5)

    def forward(self, categories, numbers):
        embedded = [embedding(categories[:, i]) for i, embedding in enumerate(self.embeddings)]
        return self.mlp(torch.cat([*embedded, numbers], dim=1)).squeeze(1)

    def training_step(self, batch, batch_idx):
        categories, numbers, target = batch
        loss = self.criterion(self(categories, numbers), target)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(target))
        return loss

    def on_validation_epoch_start(self):
        self.absolute = self.squared = self.target_sum = self.target_squares = 0.0
        self.count = 0

    def validation_step(self, batch, batch_idx):
        categories, numbers, target = batch
        error = self(categories, numbers) - target
        self.absolute += error.abs().sum().item()
        self.squared += error.square().sum().item()
        self.target_sum += target.sum().item()
        self.target_squares += target.square().sum().item()
        self.count += len(target)

    def on_validation_epoch_end(self):
        mae = self.absolute / self.count * self.hparams.price_std
        spread = self.target_squares - self.target_sum**2 / self.count
        r2 = 1 - self.squared / spread
        self.log_dict({"val_mae": mae, "val_r2": r2})
        print(f"epoch {self.current_epoch + 1:2d} valid MAE {mae:.2f} thousand, R2 {r2:.4f}", flush=True)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.max_lr, weight_decay=1e-3)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.max_lr, total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(17)
    data = FlatsData()
    model = TabularRegressor(list(CARDINALITIES.values()), len(NUMBERS), data.price_std)
    trainer = L.Trainer(
        max_epochs=60,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, datamodule=data)
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})


if __name__ == "__main__":
    main()
