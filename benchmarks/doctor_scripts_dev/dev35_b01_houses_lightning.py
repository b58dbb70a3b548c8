"""House prices from tabular features: a DataModule, a LightningModule, the best checkpoint is tested."""

import tempfile

import lightning as L
import pandas as pd
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses


def columns_of(frame):
    """What the network may see."""
    return frame.drop(columns=["price", "band"])


class HousesDataModule(L.LightningDataModule):
    def __init__(self, rows=2000, batch_size=32, seed=7):
        super().__init__()
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed

    def setup(self, stage=None):
        features, price = houses(self.rows, seed=self.seed)
        frame = pd.DataFrame(features.numpy(), columns=[f"f{i}" for i in range(features.shape[1])])
        frame["price"] = price.numpy()
        # cheap and expensive houses in equal shares in all three parts
        frame["band"] = pd.qcut(frame["price"], 20, labels=False)
        train, rest = train_test_split(frame, test_size=0.3, stratify=frame["band"], random_state=self.seed)
        val, test = train_test_split(rest, test_size=0.5, stratify=rest["band"], random_state=self.seed)

        self.scaler = StandardScaler().fit(columns_of(train))
        self.mean = float(train["price"].mean())
        self.std = float(train["price"].std())
        self.num_features = columns_of(train).shape[1]
        self.train_set = self.tensors(train)
        self.val_set = self.tensors(val)
        self.test_set = self.tensors(test)

    def tensors(self, part):
        x = torch.tensor(self.scaler.transform(columns_of(part)), dtype=torch.float32)
        y = torch.tensor(part["price"].to_numpy(), dtype=torch.float32)
        return TensorDataset(x, (y - self.mean) / self.std)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=100)


class PriceRegressor(L.LightningModule):
    def __init__(self, num_features, hidden=64, lr=1e-3, weight_decay=1e-4):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Linear(num_features, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.net(x).squeeze(-1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.mse_loss(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        loss = F.mse_loss(self(x), y)
        self.log("val_loss", loss, batch_size=len(y))

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.log("test_loss", F.mse_loss(self(x), y), batch_size=len(y))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay
        )
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def main():
    L.seed_everything(7)
    datamodule = HousesDataModule()
    datamodule.setup()
    model = PriceRegressor(datamodule.num_features)

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = ModelCheckpoint(dirpath=folder, monitor="val_loss", mode="min", save_top_k=1)
        trainer = L.Trainer(
            max_epochs=40,
            accelerator="cpu",
            devices=1,
            logger=False,
            callbacks=[checkpoint],
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, datamodule=datamodule)
        results = trainer.test(model, datamodule=datamodule, ckpt_path="best", verbose=False)

    rmse = results[0]["test_loss"] ** 0.5 * datamodule.std
    print(f"test RMSE {rmse:.1f} thousand (standard deviation of prices {datamodule.std:.1f})")


if __name__ == "__main__":
    main()
