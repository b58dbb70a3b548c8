"""Film ratings from who, what and a few facts: neural collaborative filtering with Lightning."""
import tempfile

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def make_ratings(n_users=60, n_items=40, n_ratings=1800, seed=0):
    rng = np.random.default_rng(seed)
    taste, trait = rng.normal(size=(n_users, 3)), rng.normal(size=(n_items, 3))
    kindness, quality = 0.4 * rng.normal(size=n_users), 0.4 * rng.normal(size=n_items)
    age, year = rng.integers(16, 70, n_users), rng.integers(1960, 2024, n_items)
    cells = rng.choice(n_users * n_items, n_ratings, replace=False)
    user, item = cells // n_items, cells % n_items
    score = 3.2 + kindness[user] + quality[item] + 0.35 * (taste[user] * trait[item]).sum(axis=1)
    score = score - 0.3 * (age[user] - 43) / 15 * (year[item] - 1992) / 18 + 0.2 * rng.normal(size=n_ratings)
    rating = np.clip(np.round(2 * score) / 2, 1, 5)
    return pd.DataFrame({"user": user, "item": item, "age": age[user], "year": year[item], "rating": rating})


class RatingsData(pl.LightningDataModule):
    def __init__(self, frame, batch_size=64):
        super().__init__()
        self.batch_size = batch_size
        self.columns = [c for c in frame.columns if c not in ("user", "item", "rating")]
        self.train_frame, self.val_frame = train_test_split(frame, test_size=0.2, random_state=0)
        self.scaler = StandardScaler().fit(self.train_frame[self.columns].to_numpy(float))
        self.mean_rating = float(self.train_frame["rating"].mean())

    def as_dataset(self, frame):
        facts = self.scaler.transform(frame[self.columns].to_numpy(float))
        return TensorDataset(
            torch.tensor(frame["user"].to_numpy(), dtype=torch.long),
            torch.tensor(frame["item"].to_numpy(), dtype=torch.long),
            torch.tensor(facts, dtype=torch.float32),
            torch.tensor(frame["rating"].to_numpy(), dtype=torch.float32),
        )

    def train_dataloader(self):
        return DataLoader(self.as_dataset(self.train_frame), batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.as_dataset(self.val_frame), batch_size=120)


class NeuralCF(pl.LightningModule):
    def __init__(self, n_users, n_items, n_facts, mean_rating, dim=8, lr=4e-3, max_epochs=25):
        super().__init__()
        self.save_hyperparameters()
        self.users, self.items = nn.Embedding(n_users, dim), nn.Embedding(n_items, dim)
        self.user_bias, self.item_bias = nn.Embedding(n_users, 1), nn.Embedding(n_items, 1)
        self.mlp = nn.Sequential(nn.Linear(2 * dim + n_facts, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 1))
        self.offset = nn.Parameter(torch.tensor(mean_rating))
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.3)
        for table in (self.user_bias, self.item_bias):
            nn.init.zeros_(table.weight)

    def forward(self, user, item, facts):
        p, q = self.users(user), self.items(item)
        score = (p * q).sum(dim=-1, keepdim=True) + self.user_bias(user) + self.item_bias(item)
        score = score + self.mlp(torch.cat([p, q, facts], dim=-1))
        return (score + self.offset).squeeze(-1)

    def training_step(self, batch, batch_idx):
        user, item, facts, rating = batch
        loss = F.mse_loss(self(user, item, facts), rating)
        self.log("train_mse", loss, on_step=False, on_epoch=True, batch_size=len(rating))
        return loss

    def validation_step(self, batch, batch_idx):
        user, item, facts, rating = batch
        loss = F.mse_loss(self(user, item, facts), rating)
        self.log("val_mse", loss, batch_size=len(rating))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr, weight_decay=1e-5)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.hparams.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def main():
    pl.seed_everything(7)
    frame = make_ratings()
    data = RatingsData(frame)
    model = NeuralCF(
        n_users=int(frame["user"].max()) + 1,
        n_items=int(frame["item"].max()) + 1,
        n_facts=len(data.columns),
        mean_rating=data.mean_rating,
    )
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = ModelCheckpoint(dirpath=folder, monitor="val_mse", mode="min", save_top_k=1)
        trainer = pl.Trainer(
            max_epochs=model.hparams.max_epochs,
            accelerator="cpu",
            devices=1,
            precision="32-true",
            callbacks=[checkpoint],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(model, datamodule=data)
        best = NeuralCF.load_from_checkpoint(checkpoint.best_model_path)
        result = trainer.validate(best, datamodule=data, verbose=False)[0]
    spread = float(data.val_frame["rating"].std())
    print(f"validation RMSE {result['val_mse'] ** 0.5:.3f} (ratings vary by {spread:.3f})")


if __name__ == "__main__":
    main()
