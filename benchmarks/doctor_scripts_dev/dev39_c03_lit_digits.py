import math
import tempfile

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


class DigitsDataModule(L.LightningDataModule):
    def __init__(self, batch_size: int = 50):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        images, labels = draw_digits(1200, seed=0)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(7))
        fit_part, val_part = order[:1000], order[1000:]
        images = images.float() / 255
        mean, std = images[fit_part].mean(), images[fit_part].std()
        images = (images - mean) / std
        self.train_set = TensorDataset(images[fit_part], labels[fit_part])
        self.val_set = TensorDataset(images[val_part], labels[val_part])
        test_images, test_labels = draw_digits(300, seed=1)
        self.test_set = TensorDataset((test_images.float() / 255 - mean) / std, test_labels)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=100)


class LitDigits(L.LightningModule):
    def __init__(self, lr: float = 2e-3, weight_decay: float = 1e-2, max_epochs: int = 8):
        super().__init__()
        self.save_hyperparameters()
        self.stem = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.features = nn.Sequential(
            nn.BatchNorm2d(self.stem.out_channels), nn.ReLU(),
            nn.Conv2d(self.stem.out_channels, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 48, 3, padding=1, bias=False),
            nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(48 * 4 * 4, 10))

    def forward(self, x):
        return self.head(self.features(self.stem(x)))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(y))
        return loss

    def _shared_eval(self, batch, prefix):
        x, y = batch
        logits = self(x)
        accuracy = (logits.argmax(dim=1) == y).float().mean()
        self.log_dict(
            {f"{prefix}_loss": F.cross_entropy(logits, y), f"{prefix}_acc": accuracy},
            on_step=False, on_epoch=True, batch_size=len(y),
        )

    def validation_step(self, batch, batch_idx):
        self._shared_eval(batch, "val")

    def test_step(self, batch, batch_idx):
        self._shared_eval(batch, "test")

    def on_validation_epoch_end(self):
        metrics = self.trainer.callback_metrics
        if "val_acc" in metrics:
            print(f"epoch {self.current_epoch}: val_acc {float(metrics['val_acc']):.3f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda epoch: 0.5 * (1 + math.cos(math.pi * epoch / self.hparams.max_epochs))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def main():
    L.seed_everything(11)
    data = DigitsDataModule()
    model = LitDigits()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = ModelCheckpoint(dirpath=folder, monitor="val_acc", mode="max", save_top_k=1)
        trainer = L.Trainer(
            max_epochs=model.hparams.max_epochs,
            accelerator="cpu",
            devices=1,
            logger=False,
            callbacks=[checkpoint],
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, datamodule=data)
        results = trainer.test(model, datamodule=data, ckpt_path="best", verbose=False)
    print({name: round(value, 4) for name, value in results[0].items()})


if __name__ == "__main__":
    main()
