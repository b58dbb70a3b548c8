import logging
import warnings

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

ACTIVITIES = ["walking", "running", "stairs", "cycling", "resting"]


def synth_recordings(n, seed, length=64):
    rng = np.random.default_rng(seed)
    t = np.arange(length) / 32.0
    freqs = [1.6, 2.5, 1.5, 2.3, 0.4]
    x = np.zeros((n, 3, length), dtype=np.float32)
    y = rng.integers(0, len(ACTIVITIES), n)
    for i, c in enumerate(y):
        f = freqs[c] * rng.normal(1, 0.08)
        phase = rng.uniform(0, 2 * np.pi)
        base = np.sin(2 * np.pi * f * t + phase)
        second = np.sin(4 * np.pi * f * t + 2 * phase)
        if c == 0:
            sig = [base, 0.4 * second, 0.2 * base]
        elif c == 1:
            sig = [base, 0.5 * second, 0.4 * base]
        elif c == 2:
            sig = [0.5 * base + 0.6 * second, 0.4 * second, 0.6 * base]
        elif c == 3:
            sig = [0.9 * base, 0.1 * second, np.cos(2 * np.pi * f * t + phase)]
        else:
            sig = [0.3 * base, 0.1 * base, 0.2 * base]
        x[i] = np.stack(sig) * rng.uniform(0.7, 1.3) + rng.normal(0, 1.1, (3, length))
    x = x * np.array([3.0, 2.0, 4.0], dtype=np.float32)[:, None] + np.array([0.2, 9.8, -1.0], dtype=np.float32)[:, None]
    return torch.from_numpy(x), torch.from_numpy(y)


class ActivityDataModule(pl.LightningDataModule):
    def __init__(self, batch_size: int = 64):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        x_train, y_train = synth_recordings(1600, seed=0)
        x_val, y_val = synth_recordings(500, seed=1)
        mean = x_train.mean(dim=(0, 2), keepdim=True)
        std = x_train.std(dim=(0, 2), keepdim=True)
        self.train_set = TensorDataset((x_train - mean) / std, y_train)
        self.val_set = TensorDataset((x_val - mean) / std, y_val)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=250)


class ResBlock1d(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.conv1 = nn.Conv1d(dim, dim, 5, padding=2)
        self.norm1 = nn.BatchNorm1d(dim)
        self.conv2 = nn.Conv1d(dim, dim, 5, padding=2)
        self.norm2 = nn.BatchNorm1d(dim)

    def forward(self, x):
        h = F.relu(self.norm1(self.conv1(x)))
        return F.relu(x + self.norm2(self.conv2(h)))


class LitActivity(pl.LightningModule):
    def __init__(self, dim: int = 16, depth: int = 3, lr: float = 0.15, weight_decay: float = 1e-4):
        super().__init__()
        self.save_hyperparameters()
        self.stem = nn.Conv1d(3, dim, 7, padding=3)
        self.blocks = nn.ModuleList([ResBlock1d(dim) for _ in range(depth)])
        self.head = nn.Linear(dim, len(ACTIVITIES))

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = F.max_pool1d(block(x), 2)
        return self.head(x.mean(dim=-1))

    def training_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        loss = F.cross_entropy(logits, y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        preds = logits.argmax(dim=1)
        acc = (preds == y).float().mean()
        self.log("val_loss", F.cross_entropy(logits, y), on_epoch=True)
        self.log("val_acc", acc, on_epoch=True)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(
            self.parameters(),
            lr=self.hparams.lr,
            momentum=0.9,
            weight_decay=self.hparams.weight_decay,
        )
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.hparams.lr,
            div_factor=200.0,
            total_steps=self.trainer.estimated_stepping_batches,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


class PrintMetrics(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        m = {k: round(float(v), 4) for k, v in trainer.callback_metrics.items()}
        print(f"epoch {trainer.current_epoch}: {m}")


def main():
    pl.seed_everything(3)
    dm = ActivityDataModule(batch_size=64)
    model = LitActivity()
    trainer = pl.Trainer(
        max_epochs=8,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        gradient_clip_val=5.0,
        callbacks=[PrintMetrics()],
    )
    trainer.fit(model, datamodule=dm)
    result = trainer.validate(model, datamodule=dm, verbose=False)[0]
    print("FINAL val_acc %.4f val_loss %.4f" % (result["val_acc"], result["val_loss"]))


if __name__ == "__main__":
    main()
