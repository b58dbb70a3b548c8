"""House prices from a table, with Lightning."""

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses

# name: (center, spread)
COLUMNS = {
    "area": (140.0, 40.0),
    "age": (35.0, 12.0),
    "rooms": (5.0, 1.5),
    "garden": (300.0, 90.0),
    "latitude": (48.0, 0.4),
    "longitude": (11.0, 0.6),
    "distance_to_center": (12.0, 3.0),
    "tax_rate": (0.4, 0.05),
}


def load_table(count, seed=0):
    features, price = houses(count, seed)
    table = {}
    for i, (name, (center, spread)) in enumerate(COLUMNS.items()):
        table[name] = center + spread * features[:, i]
    table["price"] = 1000 * price
    return table


class HouseData(L.LightningDataModule):
    def __init__(self, count=4000, num_train=3200, batch_size=32):
        super().__init__()
        self.count, self.num_train, self.batch_size = count, num_train, batch_size

    def setup(self, stage=None):
        table = load_table(self.count)
        names = [name for name in table if name != "price"]
        x = torch.stack([table[name] for name in names], dim=1)
        y = table["price"]

        order = torch.randperm(self.count, generator=torch.Generator().manual_seed(7))
        x = x[order]
        y = y[order]

        n = self.num_train
        x_mean, x_std = x[:n].mean(dim=0), x[:n].std(dim=0)
        self.y_mean, self.y_std = y[:n].mean(), y[:n].std()
        x = (x - x_mean) / x_std
        y = (y - self.y_mean) / self.y_std

        self.num_features = x.shape[1]
        self.train_set = TensorDataset(x[:n], y[:n])
        self.val_set = TensorDataset(x[n:], y[n:])

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=200)


class PriceModel(L.LightningModule):
    def __init__(self, num_features, price_std, hidden=128, lr=3e-3, weight_decay=1e-2):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Linear(num_features, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )
        self.squared_error, self.seen = 0.0, 0

    def forward(self, x):
        return self.net(x).squeeze(-1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.mse_loss(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_validation_epoch_start(self):
        self.squared_error, self.seen = 0.0, 0

    def validation_step(self, batch, batch_idx):
        x, y = batch
        prediction = self(x)
        self.log("val_loss", F.mse_loss(prediction, y))
        self.squared_error += ((prediction - y) ** 2).sum().item()
        self.seen += len(y)

    def on_validation_epoch_end(self):
        rmse = (self.squared_error / self.seen) ** 0.5 * self.hparams.price_std
        print(f"epoch {self.current_epoch:2d}  val RMSE {rmse:,.0f} $")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.hparams.lr,
            total_steps=self.trainer.estimated_stepping_batches,
            div_factor=100,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(3)
    torch.set_num_threads(1)
    data = HouseData()
    data.setup()
    print(f"{len(data.train_set)} houses to train on, prices {data.y_mean:,.0f} +- {data.y_std:,.0f} $")
    model = PriceModel(data.num_features, price_std=data.y_std.item())
    trainer = L.Trainer(
        max_epochs=40,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, datamodule=data)
    print(f"final val loss {trainer.callback_metrics['val_loss'].item():.4f}")


if __name__ == "__main__":
    main()
