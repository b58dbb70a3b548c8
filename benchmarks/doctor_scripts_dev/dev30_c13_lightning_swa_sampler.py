"""Lightning: digits of which some are rare; a weighted sampler evens them out, stochastic weight averaging ends the run."""

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import StochasticWeightAveraging
from torch import nn
from torch.utils.data import DataLoader, Subset, WeightedRandomSampler

from toydata import Digits


def transform(image):
    return (image.float() / 255 - 0.17) / 0.3


class RareDigits(L.LightningDataModule):
    def __init__(self, batch_size=32):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        full = Digits(True, count=2000, transform=transform)
        generator = torch.Generator().manual_seed(5)
        keep = (full.targets < 6) | (torch.rand(len(full), generator=generator) < 0.35)
        self.indices = torch.nonzero(keep).flatten()
        self.train_labels = full.targets[self.indices]
        self.train_set = Subset(full, self.indices.tolist())
        self.val_set = Digits(False, count=400, transform=transform)

    def train_dataloader(self):
        counts = torch.bincount(self.train_labels, minlength=10)
        weights = 1.0 / counts[self.train_labels].double()
        sampler = WeightedRandomSampler(weights, num_samples=len(self.train_set), replacement=True)
        return DataLoader(self.train_set, batch_size=self.batch_size, sampler=sampler)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)


class Classifier(L.LightningModule):
    def __init__(self, lr=0.02):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.GroupNorm(4, 16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.GroupNorm(4, 32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.25),
            nn.Linear(512, 10),
        )
        self.right = torch.zeros(10)
        self.count = torch.zeros(10)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_validation_epoch_start(self):
        self.right.zero_()
        self.count.zero_()

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.log("val_loss", F.cross_entropy(logits, y))
        hit = logits.argmax(1) == y
        self.right += torch.bincount(y[hit], minlength=10)
        self.count += torch.bincount(y, minlength=10)

    def on_validation_epoch_end(self):
        if self.trainer.sanity_checking:
            return
        recall = self.right / self.count.clamp(min=1)
        accuracy = self.right.sum() / self.count.sum()
        self.log("val_accuracy", accuracy)
        print(f"epoch {self.current_epoch:2d} accuracy {accuracy:.3f} rare digits {recall[6:].mean():.3f}")

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9, weight_decay=1e-4)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12, eta_min=2e-3)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def main():
    L.seed_everything(0)
    data = RareDigits()
    model = Classifier()
    trainer = L.Trainer(
        max_epochs=12,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=2.0,
        callbacks=[StochasticWeightAveraging(swa_lrs=5e-3, swa_epoch_start=0.7, annealing_epochs=2)],
    )
    trainer.fit(model, datamodule=data)
    print("with averaged weights:")
    trainer.validate(model, datamodule=data, verbose=False)


if __name__ == "__main__":
    main()
