"""LightningModule fed from two sensors at once (CombinedLoader), validated and tested on each by itself."""
import logging
import tempfile
import warnings

import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from toydata import waves

warnings.filterwarnings("ignore", ".*does not have many workers.*")
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
SENSORS = ("bench", "field")


def field_noise(signals, seed):
    """The sensor out there: weaker, and a slow hum on top."""
    g = torch.Generator().manual_seed(seed)
    n, _, length = signals.shape
    t = torch.linspace(0, 1, length)
    strength = 0.6 + 0.4 * torch.rand(n, 1, 1, generator=g)
    hum = 0.4 * torch.sin(6.28 * (t + torch.rand(n, 1, 1, generator=g)))
    return strength * signals + hum + 0.1 * torch.randn(signals.shape, generator=g)


class SensorData(L.LightningDataModule):
    sizes = {"train": (500, 800), "val": (200, 200), "test": (300, 300)}

    def __init__(self, batch_size=50):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        self.sets = {}
        for number, (part, (bench, field)) in enumerate(self.sizes.items()):
            x, y = waves(bench, seed=10 + number)
            z, w = waves(field, seed=20 + number)
            self.sets[part] = TensorDataset(x, y), TensorDataset(field_noise(z, seed=30 + number), w)

    def train_dataloader(self):
        loaders = [DataLoader(s, self.hparams.batch_size, shuffle=True) for s in self.sets["train"]]
        return CombinedLoader(dict(zip(SENSORS, loaders)), mode="max_size_cycle")

    def val_dataloader(self):
        return [DataLoader(s, 100) for s in self.sets["val"]]

    def test_dataloader(self):
        return [DataLoader(s, 100) for s in self.sets["test"]]


class WaveClassifier(L.LightningModule):
    def __init__(self, width=24, classes=4, lr=4e-3, field_weight=1.0):
        super().__init__()
        self.save_hyperparameters()

        def stage(a, b):
            return nn.Sequential(nn.Conv1d(a, b, 7, padding=3, bias=False), nn.BatchNorm1d(b), nn.ReLU(), nn.MaxPool1d(2))

        self.features = nn.Sequential(stage(1, width), stage(width, width), stage(width, 2 * width))
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(2 * width, classes))
        self.val_acc = nn.ModuleList([MulticlassAccuracy(classes, average="micro") for _ in SENSORS])
        self.test_acc = nn.ModuleList([MulticlassAccuracy(classes, average="micro") for _ in SENSORS])

    def forward(self, x):
        return self.classifier(self.features(x))

    def training_step(self, batch, batch_idx):
        (x, y), (z, w) = batch["bench"], batch["field"]
        loss_bench = F.cross_entropy(self(x), y)
        loss_field = F.cross_entropy(self(z), w)
        self.log_dict({"train/bench": loss_bench, "train/field": loss_field}, on_step=False, on_epoch=True, batch_size=len(x))
        return (loss_bench + self.hparams.field_weight * loss_field) / (1 + self.hparams.field_weight)

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        x, y = batch
        logits = self(x)
        name = SENSORS[dataloader_idx]
        self.val_acc[dataloader_idx](logits, y)
        self.log(f"val/loss_{name}", F.cross_entropy(logits, y), add_dataloader_idx=False)
        self.log(f"val/acc_{name}", self.val_acc[dataloader_idx], add_dataloader_idx=False)

    def test_step(self, batch, batch_idx, dataloader_idx=0):
        x, y = batch
        self.test_acc[dataloader_idx](self(x), y)
        self.log(f"test/acc_{SENSORS[dataloader_idx]}", self.test_acc[dataloader_idx], add_dataloader_idx=False)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-2)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Printer(Callback):
    def on_train_epoch_end(self, trainer, module):
        m = {k: round(float(v), 3) for k, v in trainer.callback_metrics.items() if k.startswith(("train/", "val/acc"))}
        print(f"epoch {trainer.current_epoch}: {m}")


def main():
    L.seed_everything(4, verbose=False)
    data, model = SensorData(), WaveClassifier()
    with tempfile.TemporaryDirectory() as folder:
        keep = ModelCheckpoint(folder, monitor="val/loss_field", mode="min")
        trainer = L.Trainer(
            max_epochs=6, accelerator="cpu", logger=False, callbacks=[keep, Printer()], num_sanity_val_steps=0,
            enable_progress_bar=False, enable_model_summary=False, gradient_clip_val=1.0,
        )
        trainer.fit(model, datamodule=data)
        results = trainer.test(model, datamodule=data, ckpt_path="best", verbose=False)
    merged = {k: v for part in results for k, v in part.items()}
    print("test, epoch of the lowest validation loss:", {k: round(v, 3) for k, v in merged.items()})


if __name__ == "__main__":
    main()
