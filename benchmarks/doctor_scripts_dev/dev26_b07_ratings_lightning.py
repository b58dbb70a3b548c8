"""Ratings of films: matrix factorization with biases, in Lightning."""

import logging
import warnings

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore", ".*num_workers.*")
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)

USERS, ITEMS = 200, 150


def make_ratings(count=14000, rank=4, seed=0):
    """Users, items and ratings of 1 to 5 in halves; no pair twice."""
    g = torch.Generator().manual_seed(seed)
    pairs = torch.randperm(USERS * ITEMS, generator=g)[:count]
    users, items = pairs // ITEMS, pairs % ITEMS
    taste = 0.65 * torch.randn(USERS, rank, generator=g)
    traits = 0.65 * torch.randn(ITEMS, rank, generator=g)
    kindness = 0.4 * torch.randn(USERS, generator=g)
    quality = 0.4 * torch.randn(ITEMS, generator=g)
    rating = 3.2 + kindness[users] + quality[items] + (taste[users] * traits[items]).sum(1)
    rating = rating + 0.3 * torch.randn(count, generator=g)
    return users, items, ((rating * 2).round() / 2).clamp(1, 5)


class RatingsData(L.LightningDataModule):
    def __init__(self, batch_size=128, valid_size=2000):
        super().__init__()
        self.batch_size = batch_size
        self.valid_size = valid_size

    def setup(self, stage=None):
        columns = make_ratings()
        order = torch.randperm(len(columns[0]), generator=torch.Generator().manual_seed(1))
        valid, train = order[: self.valid_size], order[self.valid_size :]
        self.train_set = TensorDataset(*(column[train] for column in columns))
        self.valid_set = TensorDataset(*(column[valid] for column in columns))

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.valid_set, batch_size=500)


class MatrixFactorization(L.LightningModule):
    def __init__(self, users, items, dim=6, lr=5e-3, weight_decay=2e-5):
        super().__init__()
        self.save_hyperparameters()
        self.user = nn.Embedding(users, dim)
        self.item = nn.Embedding(items, dim)
        self.user_bias = nn.Embedding(users, 1)
        self.item_bias = nn.Embedding(items, 1)
        self.offset = nn.Parameter(torch.zeros(()))
        for table in (self.user, self.item):
            nn.init.normal_(table.weight, std=0.1)
        for table in (self.user_bias, self.item_bias):
            nn.init.zeros_(table.weight)
        self.squared, self.count = 0.0, 0

    def forward(self, users, items):
        score = (self.user(users) * self.item(items)).sum(1)
        score = score + self.user_bias(users).squeeze(1) + self.item_bias(items).squeeze(1) + self.offset
        # ratings go from 1 to 5
        return 1.0 + 4.0 * torch.sigmoid(score)

    def training_step(self, batch, batch_idx):
        users, items, ratings = batch
        loss = F.mse_loss(self(users, items), ratings)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_validation_epoch_start(self):
        self.squared, self.count = 0.0, 0

    def validation_step(self, batch, batch_idx):
        users, items, ratings = batch
        self.squared += ((self(users, items) - ratings) ** 2).sum().item()
        self.count += len(ratings)

    def on_validation_epoch_end(self):
        rmse = (self.squared / self.count) ** 0.5
        self.log("val_rmse", rmse)
        print(f"epoch {self.current_epoch + 1:2d}  valid RMSE {rmse:.4f}")

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(
            self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay
        )
        return optimizer


def main():
    L.seed_everything(11)
    data = RatingsData()
    model = MatrixFactorization(USERS, ITEMS)
    trainer = L.Trainer(
        max_epochs=50,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, datamodule=data)


if __name__ == "__main__":
    main()
