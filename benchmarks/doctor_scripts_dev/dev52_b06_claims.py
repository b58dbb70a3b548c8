"""Claim counts of insured fleets: Poisson regression with a neural network and exposure as an offset."""

import tempfile
import warnings

import lightning as L
import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")
FEATURES = ["driver_age", "vehicle_age", "density", "mileage", "urban"]


def make_frame(n=1800, seed=3):
    rng = np.random.default_rng(seed)
    df = pd.DataFrame(
        {
            "driver_age": rng.uniform(18, 80, n),
            "vehicle_age": rng.integers(0, 20, n),
            "density": rng.lognormal(4.0, 0.6, n),
            "mileage": rng.uniform(5, 60, n),
            "urban": rng.integers(0, 2, n),
            "exposure": rng.uniform(0.2, 2.0, n),
        }
    )
    log_rate = (
        0.6
        + 0.0012 * (df.driver_age - 48) ** 2 * (df.driver_age < 48)
        + 0.5 * (np.log(df.density) - 4.0)
        + 0.02 * (df.mileage - 30) * np.where(df.urban == 1, 1.0, -0.3)
        - 0.03 * df.vehicle_age
    )
    df["claims"] = rng.poisson(df.exposure * np.exp(log_rate))
    return df


class ClaimsData(L.LightningDataModule):
    def __init__(self, batch_size=64, seed=3):
        super().__init__()
        self.batch_size, self.seed = batch_size, seed

    def setup(self, stage=None):
        df = make_frame(seed=self.seed)
        train, rest = train_test_split(df, test_size=0.33, random_state=self.seed)
        val, test = train_test_split(rest, test_size=0.5, random_state=self.seed)
        self.scaler = StandardScaler().fit(train[FEATURES].to_numpy())
        self.train, self.val, self.test = (self.to_dataset(part) for part in (train, val, test))

    def to_dataset(self, frame):
        x = self.scaler.transform(frame[FEATURES].to_numpy())
        columns = x, frame["exposure"].to_numpy(), frame["claims"].to_numpy()
        return TensorDataset(*(torch.tensor(c, dtype=torch.float32) for c in columns))

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=256)

    def test_dataloader(self):
        return DataLoader(self.test, batch_size=256)


class PoissonNet(L.LightningModule):
    def __init__(self, n_features: int, hidden: int = 48, lr: float = 5e-3):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Linear(n_features, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1)
        )
        self.criterion = nn.PoissonNLLLoss(log_input=True)

    def forward(self, x, exposure):
        """Log of the expected number of claims."""
        return self.net(x).squeeze(-1) + torch.log(exposure)

    def compute_loss(self, batch):
        x, exposure, claims = batch
        return self.criterion(self(x, exposure), claims)

    def training_step(self, batch, batch_idx):
        loss = self.compute_loss(batch)
        self.log("train_loss", loss, on_epoch=True, on_step=False)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.compute_loss(batch), batch_size=len(batch[0]))

    def test_step(self, batch, batch_idx):
        x, exposure, claims = batch
        expected = self(x, exposure).exp()
        self.log("test_loss", self.compute_loss(batch), batch_size=len(x))
        self.log("test_mae", (expected - claims).abs().mean(), batch_size=len(x))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-3)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.lr, total_steps=self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(11)
    data = ClaimsData()
    model = PoissonNet(n_features=len(FEATURES))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = ModelCheckpoint(dirpath=folder, monitor="val_loss", mode="min", save_top_k=1)
        trainer = L.Trainer(
            max_epochs=12,
            accelerator="cpu",
            logger=False,
            callbacks=[checkpoint],
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(model, datamodule=data)
        print("best validation loss:", float(checkpoint.best_model_score))
        results = trainer.test(model, datamodule=data, ckpt_path="best", verbose=False)[0]
    print({name: round(value, 4) for name, value in results.items()})


if __name__ == "__main__":
    main()
