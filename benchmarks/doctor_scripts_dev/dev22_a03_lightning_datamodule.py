"""Digits with Lightning: a LightningDataModule, a LightningModule, a Trainer."""
import logging
import warnings

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits

warnings.filterwarnings("ignore", ".*num_workers.*")
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
torch.set_num_threads(1)

MEAN, STD = 0.2, 0.3


def eval_transform(image):
    return (image.float() / 255 - MEAN) / STD


def train_transform(image):
    """Normalize, roll by up to one pixel, and black out a square in half of the cases."""
    image = (image.float() / 255 - MEAN) / STD
    dy, dx = torch.randint(-1, 2, (2,)).tolist()
    image = torch.roll(image, (dy, dx), dims=(1, 2))
    if torch.rand(()) < 0.5:
        top, left = torch.randint(1, 10, (2,)).tolist()
        image[:, top : top + 6, left : left + 6] = -MEAN / STD
    return image


class DigitFolder(Dataset):
    """Samples in the order of their class folders: 0/0001.png, 0/0002.png, ..., 9/0150.png."""

    def __init__(self, images, labels, transform):
        order = labels.argsort(stable=True)
        self.images, self.labels = images[order], labels[order]
        self.transform = transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.transform(self.images[index]), int(self.labels[index])


class DigitsDataModule(L.LightningDataModule):
    def __init__(self, batch_size=32, val_fraction=0.2, seed=7):
        super().__init__()
        self.batch_size, self.val_fraction, self.seed = batch_size, val_fraction, seed

    def setup(self, stage=None):
        images, labels = draw_digits(2200, seed=self.seed, noise=0.15)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(self.seed))
        n_val = int(self.val_fraction * len(labels))
        val_ids, train_ids = order[:n_val], order[n_val:]
        self.train_set = DigitFolder(images[train_ids], labels[train_ids], transform=train_transform)
        self.val_set = DigitFolder(images[val_ids], labels[val_ids], transform=eval_transform)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=110)


class LitDigits(L.LightningModule):
    def __init__(self, lr=1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.fc1 = nn.Linear(64 * 4 * 4, 96)
        self.fc2 = nn.Linear(96, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.relu(self.conv2(x))
        x = F.dropout2d(x, 0.25, training=self.training)
        x = F.max_pool2d(x, 2).flatten(1)
        x = F.relu(self.fc1(x))
        x = F.dropout(x, 0.5, training=self.training)
        x = self.fc2(x)
        return F.log_softmax(x, dim=1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.nll_loss(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(y))
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        log_probs = self(x)
        acc = (log_probs.argmax(dim=1) == y).float().mean()
        self.log("val_loss", F.nll_loss(log_probs, y), batch_size=len(y))
        self.log("val_acc", acc, batch_size=len(y))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs, eta_min=1e-5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


class PrintMetrics(L.Callback):
    def on_train_epoch_end(self, trainer, module):
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        text = "  ".join(f"{name} {value:.4f}" for name, value in sorted(metrics.items()))
        print(f"epoch {trainer.current_epoch + 1:2d}  {text}", flush=True)


if __name__ == "__main__":
    L.seed_everything(42)
    datamodule = DigitsDataModule()
    model = LitDigits(lr=2e-3)
    trainer = L.Trainer(
        max_epochs=16,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[PrintMetrics()],
    )
    trainer.fit(model, datamodule=datamodule)
    print("validation accuracy", float(trainer.callback_metrics["val_acc"]))
