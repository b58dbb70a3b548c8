"""Digits placed on a larger noisy canvas, LightningModule + LightningDataModule."""
import argparse
import logging
import tempfile
import warnings

import lightning as L
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class CanvasDigits(Dataset):
    """8x8 digits put somewhere on a SIDE x SIDE canvas with sensor noise."""

    SIDE = 14

    def __init__(self, images, labels, mean=0.0, std=1.0, jitter=False, seed=0):
        self.images, self.labels = images, labels
        self.mean, self.std, self.jitter = mean, std, jitter
        g = torch.Generator().manual_seed(seed)
        self.pos = torch.randint(0, self.SIDE - 7, (len(images), 2), generator=g)
        self.noise = 0.1 * torch.randn(len(images), self.SIDE, self.SIDE, generator=g)

    def __len__(self):
        return len(self.images)

    def canvas(self, i):
        if self.jitter:
            r, c = torch.randint(0, self.SIDE - 7, (2,)).tolist()
            out = 0.1 * torch.randn(self.SIDE, self.SIDE)
        else:
            r, c = self.pos[i].tolist()
            out = self.noise[i].clone()
        out[r:r + 8, c:c + 8] += self.images[i]
        return out

    def __getitem__(self, i):
        x = (self.canvas(i) - self.mean) / self.std
        return x.unsqueeze(0), self.labels[i]


class DigitsDataModule(L.LightningDataModule):
    def __init__(self, batch_size=64):
        super().__init__()
        self.batch_size = batch_size

    def prepare_data(self):
        load_digits()

    def setup(self, stage=None):
        if hasattr(self, "train_ds"):
            return
        d = load_digits()
        x = torch.tensor(d.images / 16.0, dtype=torch.float32)
        y = torch.tensor(d.target, dtype=torch.long)
        rest, test = train_test_split(np.arange(len(y)), test_size=400, stratify=y, random_state=7)
        train, val = train_test_split(rest, test_size=250, stratify=y[rest], random_state=7)
        raw = CanvasDigits(x[train], y[train], seed=1)
        pixels = torch.stack([raw.canvas(i) for i in range(len(raw))])
        mean, std = pixels.mean().item(), pixels.std().item()
        self.train_ds = CanvasDigits(x[train], y[train], mean, std, jitter=True)
        self.val_ds = CanvasDigits(x[val], y[val], mean, std, seed=2)
        self.test_ds = CanvasDigits(x[test], y[test], mean, std, seed=3)

    def train_dataloader(self):
        return DataLoader(self.train_ds, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_ds, batch_size=250)

    def test_dataloader(self):
        return DataLoader(self.test_ds, batch_size=200)


class LitConvNet(L.LightningModule):
    def __init__(self, width=16, lr=6e-3, weight_decay=1e-3, p=0.25):
        super().__init__()
        self.save_hyperparameters()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 4 * width, 3), nn.ReLU(), nn.Flatten(),
        )
        self.head = nn.Sequential(nn.Dropout(p), nn.Linear(4 * width, 10))

    def forward(self, x):
        return self.head(self.backbone(x))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def _shared_eval(self, batch, prefix):
        x, y = batch
        logits = self(x)
        acc = (logits.argmax(1) == y).float().mean()
        self.log(f"{prefix}_loss", F.cross_entropy(logits, y), batch_size=len(y))
        self.log(f"{prefix}_acc", acc, batch_size=len(y))

    def validation_step(self, batch, batch_idx):
        self._shared_eval(batch, "val")

    def test_step(self, batch, batch_idx):
        self._shared_eval(batch, "test")

    def configure_optimizers(self):
        opt = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)
        sched = torch.optim.lr_scheduler.OneCycleLR(
            opt, max_lr=self.hparams.lr, total_steps=int(self.trainer.estimated_stepping_batches))
        return {"optimizer": opt, "lr_scheduler": {"scheduler": sched, "interval": "step"}}


class PrintCallback(Callback):
    def on_train_epoch_end(self, trainer, module):
        if trainer.current_epoch % 4 == 0:
            m = trainer.callback_metrics
            print(f"epoch {trainer.current_epoch:2d}  train_loss {m['train_loss']:.3f}  "
                  f"val_loss {m['val_loss']:.3f}  val_acc {m['val_acc']:.3f}")


def main(args):
    L.seed_everything(args.seed)
    dm = DigitsDataModule(args.batch_size)
    model = LitConvNet(lr=args.lr)
    checkpoint = ModelCheckpoint(dirpath=tempfile.mkdtemp(), monitor="val_acc", mode="max", save_top_k=1)
    stopper = EarlyStopping(monitor="val_loss", patience=10)
    trainer = L.Trainer(
        max_epochs=args.epochs, accelerator="cpu", devices=1, logger=False, num_sanity_val_steps=0,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[checkpoint, stopper, PrintCallback()],
    )
    trainer.fit(model, datamodule=dm)
    res = trainer.test(model, datamodule=dm, ckpt_path="best", verbose=False, weights_only=False)[0]
    print(f"test_loss {res['test_loss']:.4f}  test_acc {res['test_acc']:.4f}")


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--epochs", type=int, default=18)
    p.add_argument("--batch_size", type=int, default=64)
    p.add_argument("--lr", type=float, default=6e-3)
    p.add_argument("--seed", type=int, default=42)
    main(p.parse_args())
