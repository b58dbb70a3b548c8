"""House prices from a table, with PyTorch Lightning."""

import lightning as L
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses

# area, distance, rooms, bathrooms, heading, year, energy, floor
OFFSET = np.array([120.0, 9.0, 5.0, 2.0, 0.0, 1975.0, 140.0, 3.0])
SCALE = np.array([25.0, 2.0, 0.8, 0.4, 1.0, 18.0, 30.0, 0.7])


class HouseData(L.LightningDataModule):
    def __init__(self, count=4800, validation=800, batch_size=32, seed=0):
        super().__init__()
        self.batch_size = batch_size
        rng = np.random.default_rng(seed)
        features, price = houses(count, seed)
        raw = features.numpy().astype(np.float64) * SCALE + OFFSET
        dollars = 1000.0 * (price.numpy() + 25.0 * rng.standard_normal(count))  # buyers are moody

        order = rng.permutation(count)
        train_rows, val_rows = order[validation:], order[:validation]
        area_per_room = raw[:, 0] / raw[:, 2]
        x = np.column_stack([raw, area_per_room])
        scaler = StandardScaler().fit(x[train_rows])
        x = scaler.transform(x)

        self.n_features = x.shape[1]
        self.y_mean = float(dollars[train_rows].mean())
        self.y_std = float(dollars[train_rows].std())
        y = (dollars - self.y_mean) / self.y_std
        x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
        self.train_set = TensorDataset(x[train_rows], y[train_rows])
        self.val_set = TensorDataset(x[val_rows], y[val_rows])

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=200)


class PriceRegressor(L.LightningModule):
    def __init__(self, in_features, y_std, lr=1e-3, epochs=35):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Linear(in_features, 64),
            nn.ReLU(),
            nn.Linear(64, 64),
            nn.ReLU(),
            nn.Linear(64, 1),
        )
        self.outputs, self.truths = [], []

    def forward(self, x):
        return self.net(x).squeeze(-1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.mse_loss(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.outputs.append(self(x))
        self.truths.append(y)

    def on_validation_epoch_end(self):
        predicted = torch.cat(self.outputs).cpu().numpy()
        truth = torch.cat(self.truths).cpu().numpy()
        self.outputs.clear()
        self.truths.clear()
        r2 = float(r2_score(truth, predicted))
        rmse = self.hparams.y_std * float(np.sqrt(np.mean((truth.reshape(-1) - predicted.reshape(-1)) ** 2)))
        self.log("val_r2", r2)
        print(f"epoch {self.current_epoch + 1:2d}: validation R2 {r2:.3f}, RMSE ${rmse:,.0f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-3)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.hparams.epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


if __name__ == "__main__":
    L.seed_everything(7)
    data = HouseData()
    model = PriceRegressor(data.n_features, data.y_std)
    trainer = L.Trainer(
        max_epochs=model.hparams.epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, datamodule=data)
    print("final R2", float(trainer.callback_metrics["val_r2"]))
