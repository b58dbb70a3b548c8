"""One-hour-ahead forecast of an electric load (made up, in MW) with Lightning."""
import math
import tempfile

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, Dataset

WINDOW = 48


def synthetic_load(hours=2000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    t = torch.arange(hours, dtype=torch.float32)
    daily = 250 * torch.sin(2 * math.pi * t / 24) + 80 * torch.sin(2 * math.pi * t / 12 + 0.7)
    weekly = 120 * torch.sin(2 * math.pi * t / 168)
    return 1200 + daily + weekly + 10 * torch.randn(hours, generator=generator)


class SlidingWindows(Dataset):
    def __init__(self, series, window):
        self.series = series
        self.window = window

    def __len__(self):
        return len(self.series) - self.window

    def __getitem__(self, start):
        stop = start + self.window
        return self.series[start:stop], self.series[stop]


class LoadDataModule(L.LightningDataModule):
    def __init__(self, series, window=WINDOW, batch_size=64):
        super().__init__()
        self.series, self.window, self.batch_size = series, window, batch_size

    def setup(self, stage=None):
        n_train, n_val = int(0.7 * len(self.series)), int(0.85 * len(self.series))
        past = self.series[:n_train]
        self.mean, self.std = past.mean().item(), past.std().item()
        scaled = (self.series - self.mean) / self.std
        self.train_set = SlidingWindows(scaled[:n_train], self.window)
        self.val_set = SlidingWindows(scaled[n_train:n_val], self.window)
        self.test_set = SlidingWindows(scaled[n_val:], self.window)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=256)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=256)


class ForecastNet(nn.Module):
    def __init__(self, window, hidden=128):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(window, hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.layers(x).squeeze(-1)


class ForecastModule(L.LightningModule):
    def __init__(self, window, lr, scale):
        super().__init__()
        self.save_hyperparameters()
        self.net = ForecastNet(window)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.mse_loss(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        prediction = self(x)
        self.log("val_loss", F.mse_loss(prediction, y))
        self.log("val_mae", F.l1_loss(prediction, y) * self.hparams.scale)

    def on_train_epoch_end(self):
        metrics = self.trainer.callback_metrics
        print(f"epoch {self.current_epoch}: val_mae {metrics['val_mae'].item():.2f} MW")

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, T_max=int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


@torch.no_grad()
def test_error(net, loader, scale):
    net.eval()
    error, naive, count = 0.0, 0.0, 0
    for x, y in loader:
        error += (net(x) - y).abs().sum().item()
        naive += (x[:, -24] - y).abs().sum().item()
        count += len(y)
    return error / count * scale, naive / count * scale


def main():
    L.seed_everything(7)
    data = LoadDataModule(synthetic_load())
    data.setup()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = ModelCheckpoint(dirpath=folder, monitor="val_loss", mode="min", save_top_k=1)
        trainer = L.Trainer(
            max_epochs=25,
            accelerator="cpu",
            devices=1,
            precision="32-true",
            callbacks=[checkpoint],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=folder,
        )
        trainer.fit(ForecastModule(WINDOW, lr=5e-4, scale=data.std), datamodule=data)
        saved = torch.load(checkpoint.best_model_path, map_location="cpu", weights_only=False)

    net = ForecastNet(WINDOW)
    weights = {name.removeprefix("net."): tensor for name, tensor in saved["state_dict"].items()}
    net.load_state_dict(weights)
    error, naive = test_error(net, data.test_dataloader(), data.std)
    print(f"test MAE {error:.2f} MW (as yesterday at this hour: {naive:.2f} MW)")


if __name__ == "__main__":
    main()
