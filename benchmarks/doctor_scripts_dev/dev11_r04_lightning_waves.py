"""A LightningModule with its DataModule: waves of four kinds, of which some are rare."""

import argparse
import logging
import tempfile
import warnings

import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset, random_split

from toydata import waves

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", category=UserWarning)


class WavesDataModule(L.LightningDataModule):
    def __init__(self, batch_size=32, keep=(1.0, 0.6, 0.25, 0.08), seed=7):
        super().__init__()
        self.save_hyperparameters()
        self.dataset = None

    def prepare_data(self):
        if self.dataset is not None:
            return
        signals, labels = waves(count=1500, seed=self.hparams.seed)
        signals = signals + 0.5 * torch.randn(signals.shape, generator=torch.Generator().manual_seed(5))
        chance = torch.rand(len(labels), generator=torch.Generator().manual_seed(3))
        chosen = chance < torch.tensor(self.hparams.keep)[labels]
        self.dataset = TensorDataset(signals[chosen], labels[chosen])

    def setup(self, stage=None):
        lengths = [len(self.dataset) - 240, 240]
        self.train_set, self.val_set = random_split(self.dataset, lengths, generator=torch.Generator().manual_seed(42))
        labels = self.dataset.tensors[1][self.train_set.indices]
        self.class_counts = torch.bincount(labels, minlength=4).float()

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=120)


class WaveNet(nn.Module):
    def __init__(self, width=24, classes=4):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(1, width, 7, padding=3), nn.BatchNorm1d(width), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(width, width, 5, padding=2), nn.BatchNorm1d(width), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(width, 2 * width, 5, padding=2), nn.BatchNorm1d(2 * width), nn.ReLU(), nn.AdaptiveMaxPool1d(2),
        )
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


class LitClassifier(L.LightningModule):
    def __init__(self, class_counts, max_lr=0.05, weight_decay=1e-4):
        super().__init__()
        self.save_hyperparameters(ignore=["class_counts"])
        self.model = WaveNet()
        weights = class_counts.sum() / (4 * class_counts)
        self.criterion = nn.CrossEntropyLoss(weight=weights)
        self.confusion = torch.zeros(4, 4)

    def forward(self, x):
        return self.model(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = self.criterion(self(x), y)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def on_validation_epoch_start(self):
        self.confusion = torch.zeros(4, 4)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.log("val_loss", F.cross_entropy(logits, y), batch_size=len(y))
        self.confusion += torch.bincount(4 * y + logits.argmax(1), minlength=16).view(4, 4)

    def on_validation_epoch_end(self):
        recall = self.confusion.diagonal() / self.confusion.sum(1).clamp(min=1)
        self.log("val_recall", recall.mean(), prog_bar=True)
        self.log("val_acc", self.confusion.diagonal().sum() / self.confusion.sum(), prog_bar=True)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.max_lr, momentum=0.9, weight_decay=self.hparams.weight_decay)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.max_lr, total_steps=self.trainer.estimated_stepping_batches, div_factor=25, cycle_momentum=False
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class PrintEpoch(L.Callback):
    def on_validation_epoch_end(self, trainer, module):
        if not trainer.sanity_checking:
            row = {name: round(float(value), 4) for name, value in trainer.callback_metrics.items()}
            print(f"epoch {trainer.current_epoch}: {row}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-epochs", type=int, default=12)
    parser.add_argument("--max-lr", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    L.seed_everything(args.seed)
    datamodule = WavesDataModule()
    datamodule.prepare_data()
    datamodule.setup("fit")
    print("classes of training:", datamodule.class_counts.tolist())
    module = LitClassifier(datamodule.class_counts, max_lr=args.max_lr)
    folder = tempfile.mkdtemp()
    checkpoint = ModelCheckpoint(dirpath=folder, monitor="val_recall", mode="max", save_top_k=1)
    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_epochs=args.max_epochs, callbacks=[checkpoint, PrintEpoch()], logger=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
    )
    trainer.fit(module, datamodule=datamodule)
    result = trainer.validate(module, datamodule=datamodule, ckpt_path=checkpoint.best_model_path, verbose=False)
    print("best checkpoint:", {name: round(value, 4) for name, value in result[0].items()})


if __name__ == "__main__":
    main()
