"""Train a small CNN on the scikit-learn digits with PyTorch Lightning.

    python b01_lit_digits.py --epochs 10 --batch-size 64
"""
import argparse
import tempfile

import lightning as L
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset


class RandomShiftErase:
    """Shift the image by up to `shift` pixels and blank out a small square."""

    def __init__(self, shift=1, erase=3, p=0.5):
        self.shift = shift
        self.erase = erase
        self.p = p

    def __call__(self, img):
        _, h, w = img.shape
        padded = F.pad(img, [self.shift] * 4, value=img.min().item())
        top, left = torch.randint(0, 2 * self.shift + 1, (2,)).tolist()
        img = padded[:, top:top + h, left:left + w].clone()
        if torch.rand(1).item() < self.p:
            y = torch.randint(0, h - self.erase + 1, (1,)).item()
            x = torch.randint(0, w - self.erase + 1, (1,)).item()
            img[:, y:y + self.erase, x:x + self.erase] = img.min()
        return img


class DigitsDataset(Dataset):
    def __init__(self, images, labels, transform=None):
        self.images = images
        self.labels = labels
        self.transform = transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, idx):
        img = self.images[idx]
        if self.transform is not None:
            img = self.transform(img)
        return img, self.labels[idx]


class DigitsDataModule(L.LightningDataModule):
    def __init__(self, batch_size=64, seed=42):
        super().__init__()
        self.batch_size = batch_size
        self.seed = seed

    def setup(self, stage=None):
        digits = load_digits()
        images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16.0
        labels = torch.tensor(digits.target, dtype=torch.long)

        fit_idx, test_idx = train_test_split(
            np.arange(len(labels)), test_size=0.2, stratify=digits.target, random_state=self.seed
        )
        train_idx, val_idx = train_test_split(
            fit_idx, test_size=0.2, stratify=digits.target[fit_idx], random_state=self.seed
        )
        mean, std = images[train_idx].mean(), images[train_idx].std()
        images = (images - mean) / std

        augment = RandomShiftErase()
        self.train_set = DigitsDataset(images[train_idx], labels[train_idx], transform=augment)
        self.val_set = DigitsDataset(images[val_idx], labels[val_idx])
        self.test_set = DigitsDataset(images[test_idx], labels[test_idx])

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=256)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=256)


class LitDigits(L.LightningModule):
    def __init__(self, lr=4e-3, weight_decay=1e-2, dropout=0.4, mixup_alpha=0.2, num_classes=10):
        super().__init__()
        self.save_hyperparameters()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.fc1 = nn.Linear(64 * 4 * 4, 128)
        self.fc2 = nn.Linear(128, num_classes)

    def forward(self, x):
        x = self.features(x).flatten(1)
        x = F.relu(self.fc1(x))
        x = F.dropout(x, p=self.hparams.dropout, training=self.training)
        return self.fc2(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        lam = float(np.random.beta(self.hparams.mixup_alpha, self.hparams.mixup_alpha))
        index = torch.randperm(x.size(0), device=x.device)
        x = lam * x + (1.0 - lam) * x[index]
        y_a, y_b = y, y[index]
        logits = self(x)
        loss = lam * F.cross_entropy(logits, y_a) + (1.0 - lam) * F.cross_entropy(logits, y_b)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def _shared_eval(self, batch, prefix):
        x, y = batch
        logits = self(x)
        acc = (logits.argmax(dim=1) == y).float().mean()
        self.log(f"{prefix}_loss", F.cross_entropy(logits, y), batch_size=y.size(0))
        self.log(f"{prefix}_acc", acc, batch_size=y.size(0))

    def validation_step(self, batch, batch_idx):
        self._shared_eval(batch, "val")

    def test_step(self, batch, batch_idx):
        self._shared_eval(batch, "test")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay
        )
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.hparams.lr,
            total_steps=int(self.trainer.estimated_stepping_batches),
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


class PrintMetrics(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        m = trainer.callback_metrics
        print(f"epoch {trainer.current_epoch:2d}  val_loss {m['val_loss']:.4f}  val_acc {m['val_acc']:.4f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()

    L.seed_everything(args.seed)
    datamodule = DigitsDataModule(batch_size=args.batch_size, seed=args.seed)
    model = LitDigits()

    with tempfile.TemporaryDirectory() as ckpt_dir:
        checkpoint = ModelCheckpoint(dirpath=ckpt_dir, monitor="val_loss", mode="min", save_top_k=1)
        trainer = L.Trainer(
            max_epochs=args.epochs,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[checkpoint, PrintMetrics()],
        )
        trainer.fit(model, datamodule=datamodule)
        results = trainer.test(model, datamodule=datamodule, ckpt_path="best", verbose=False)
    print({k: round(v, 4) for k, v in results[0].items()})


if __name__ == "__main__":
    main()
