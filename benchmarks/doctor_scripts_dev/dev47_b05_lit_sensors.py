"""LightningModule + LightningDataModule: which vibration does a machine with six sensors make?"""

import logging
import warnings

import lightning as L
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", ".*does not have many workers.*")

N_SENSORS = 6
GAINS = torch.linspace(0.6, 1.6, N_SENSORS)
OFFSETS = torch.linspace(-1.5, 1.5, N_SENSORS)


def read_log(count, seed):
    """A log as the logger writes it: recordings x time x sensors; each sensor hears the machine a little later."""
    signals, kinds = waves(count=count, seed=seed)
    columns = [signals[:, 0].roll(2 * k, dims=1) * GAINS[k] + OFFSETS[k] for k in range(N_SENSORS)]
    log = torch.stack(columns, dim=2)
    noise = torch.randn(log.shape, generator=torch.Generator().manual_seed(100 + seed))
    return log + 0.5 * noise, kinds


class SensorData(L.LightningDataModule):
    def __init__(self, batch_size: int = 50):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        log, kinds = read_log(1000, seed=0)
        log_val, kinds_val = read_log(300, seed=1)
        mean = log.mean(dim=(0, 1))
        std = log.std(dim=(0, 1))
        self.train_set = TensorDataset(self.prepare(log, mean, std), kinds)
        self.val_set = TensorDataset(self.prepare(log_val, mean, std), kinds_val)

    @staticmethod
    def prepare(log, mean, std):
        log = (log - mean) / std
        return log.permute(0, 2, 1).contiguous()

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)


class SensorNet(L.LightningModule):
    def __init__(self, width: int = 32, hidden: int = 48, num_kinds: int = 4, lr: float = 5e-3, alpha: float = 0.2):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(
            nn.Conv1d(N_SENSORS, width, 7, stride=2, padding=3),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, 2 * width, 5, stride=2, padding=2),
            nn.BatchNorm1d(2 * width),
            nn.ReLU(),
        )
        self.rnn = nn.GRU(2 * width, hidden, batch_first=True)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(hidden, num_kinds)

    def forward(self, x):
        z = self.encoder(x)
        steps, _ = self.rnn(z.transpose(1, 2))
        return self.head(self.dropout(steps.mean(dim=1)))

    def training_step(self, batch, batch_idx):
        x, y = batch
        lam = float(np.random.beta(self.hparams.alpha, self.hparams.alpha))
        perm = torch.randperm(x.size(0), device=x.device)
        mixed = lam * x + (1 - lam) * x[perm]
        out = self(mixed)
        loss = lam * F.cross_entropy(out, y) + (1 - lam) * F.cross_entropy(out, y[perm])
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=x.size(0))
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        out = self(x)
        acc = (out.argmax(dim=1) == y).float().mean()
        self.log("val_loss", F.cross_entropy(out, y), batch_size=x.size(0))
        self.log("val_acc", acc, batch_size=x.size(0))

    def on_validation_end(self):
        m = self.trainer.callback_metrics
        print(f"epoch {self.current_epoch}: val_loss {m['val_loss']:.4f} val_acc {m['val_acc']:.4f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-2)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.lr, total_steps=self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def cli_main():
    L.seed_everything(42)
    trainer = L.Trainer(
        max_epochs=10,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    model = SensorNet()
    trainer.fit(model, datamodule=SensorData())
    print("final val_acc", round(float(trainer.callback_metrics["val_acc"]), 4))


if __name__ == "__main__":
    cli_main()
