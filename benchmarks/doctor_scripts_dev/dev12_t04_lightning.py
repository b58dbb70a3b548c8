"""Digits with a LightningModule, a LightningDataModule and a Trainer."""

import argparse
import tempfile
import warnings

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, random_split

from toydata import Digits

warnings.filterwarnings("ignore", ".*does not have many workers.*")


class DigitsDataModule(L.LightningDataModule):
    def __init__(self, count=1250, batch_size=32, noise=0.3):
        super().__init__()
        self.save_hyperparameters()

    def transform(self, image):
        return (image.float() / 255 - 0.25) / 0.35

    def setup(self, stage=None):
        self.full = Digits(count=self.hparams.count, noise=self.hparams.noise, transform=self.transform)
        generator = torch.Generator().manual_seed(42)
        self.train_set, self.val_set = random_split(self.full, [0.8, 0.2], generator=generator)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=self.hparams.batch_size)


class ConvBlock(nn.Module):
    def __init__(self, in_channels, out_channels, pool=False):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()

    def forward(self, x):
        return self.pool(F.relu(self.conv(x)))


class DigitClassifier(L.LightningModule):
    def __init__(self, width=16, max_lr=0.08, weight_decay=1e-4, num_classes=10):
        super().__init__()
        self.save_hyperparameters()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            [
                ConvBlock(width, width, pool=True),
                ConvBlock(width, 2 * width),
                ConvBlock(2 * width, 2 * width, pool=True),
            ]
        )
        self.head = nn.Linear(2 * width * 16, num_classes)
        self.val_correct = self.val_count = 0

    def forward(self, x):
        x = F.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x.flatten(1))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_validation_epoch_start(self):
        self.val_correct = self.val_count = 0

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.log("val_loss", F.cross_entropy(logits, y), on_epoch=True, batch_size=len(y))
        self.val_correct += (logits.argmax(dim=1) == y).sum().item()
        self.val_count += len(y)

    def on_validation_epoch_end(self):
        self.log("val_acc", self.val_correct / max(1, self.val_count))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(
            self.parameters(),
            lr=self.hparams.max_lr,
            momentum=0.9,
            nesterov=True,
            weight_decay=self.hparams.weight_decay,
        )
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.hparams.max_lr,
            total_steps=self.trainer.estimated_stepping_batches,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class PrintMetrics(Callback):
    def on_validation_epoch_end(self, trainer, module):
        if trainer.sanity_checking:
            return
        shown = {name: round(float(value), 4) for name, value in trainer.callback_metrics.items()}
        print(f"epoch {trainer.current_epoch}: {shown}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()

    L.seed_everything(args.seed)
    data = DigitsDataModule(batch_size=args.batch_size)
    model = DigitClassifier()
    checkpoint = ModelCheckpoint(dirpath=tempfile.mkdtemp(), monitor="val_acc", mode="max", filename="best")
    trainer = L.Trainer(
        max_epochs=args.max_epochs,
        accelerator="cpu",
        devices=1,
        gradient_clip_val=1.0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
        callbacks=[checkpoint, PrintMetrics()],
    )
    trainer.fit(model, datamodule=data)
    print(f"best val_acc {float(checkpoint.best_model_score):.4f} in {checkpoint.best_model_path}")


if __name__ == "__main__":
    main()
