"""Digits with Lightning: a data module, a module with a few convolution blocks, early stopping."""

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split

from toydata import Digits


class DigitsDataModule(L.LightningDataModule):
    def __init__(self, batch_size=64, noise=0.3, seed=3):
        super().__init__()
        self.save_hyperparameters()

    def to_dataset(self, digits):
        images = digits.data.float() / 255.0
        return TensorDataset(images - 0.2, digits.targets)

    def setup(self, stage=None):
        full = self.to_dataset(Digits(train=True, count=3000, noise=self.hparams.noise))
        generator = torch.Generator().manual_seed(self.hparams.seed)
        self.train_set, self.val_set = random_split(full, [2500, 500], generator=generator)
        self.test_set = self.to_dataset(Digits(train=False, count=500, noise=self.hparams.noise))

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=250)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=250)


class ConvBlock(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, x):
        return F.max_pool2d(F.relu(self.conv(x)), 2)


class LitClassifier(L.LightningModule):
    def __init__(self, widths=(1, 16, 32, 48), num_classes=10, lr=0.05, weight_decay=1e-4):
        super().__init__()
        self.save_hyperparameters()
        self.blocks = nn.ModuleList([ConvBlock(i, o) for i, o in zip(widths, widths[1:])])
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(widths[-1] * 2 * 2, num_classes)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        x = torch.flatten(x, 1)
        return self.classifier(self.dropout(x))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def _shared_eval(self, batch, prefix):
        x, y = batch
        logits = self(x)
        loss = F.cross_entropy(logits, y)
        acc = (logits.argmax(dim=1) == y).float().mean()
        self.log_dict({f"{prefix}_loss": loss, f"{prefix}_acc": acc}, batch_size=len(y))

    def validation_step(self, batch, batch_idx):
        self._shared_eval(batch, "val")

    def test_step(self, batch, batch_idx):
        self._shared_eval(batch, "test")

    def on_validation_epoch_end(self):
        if not self.trainer.sanity_checking:
            metrics = self.trainer.callback_metrics
            print(f"epoch {self.current_epoch}: val_loss {metrics['val_loss']:.4f} val_acc {metrics['val_acc']:.3f}")

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(
            self.parameters(), lr=self.hparams.lr, momentum=0.9, weight_decay=self.hparams.weight_decay)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def main():
    L.seed_everything(3)
    dm = DigitsDataModule()
    model = LitClassifier()
    trainer = L.Trainer(
        max_epochs=12,
        accelerator="cpu",
        devices=1,
        callbacks=[EarlyStopping(monitor="val_loss", mode="min", patience=4)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=dm)
    trainer.test(model, datamodule=dm)


if __name__ == "__main__":
    main()
