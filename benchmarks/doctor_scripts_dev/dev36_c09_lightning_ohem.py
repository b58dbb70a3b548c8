"""Waves with Lightning: 1-D ResNet, online hard-example mining that sets in slowly, warmup + cosine by step."""
import math
import tempfile
import warnings

import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset, random_split

import toydata

warnings.filterwarnings("ignore", ".*does not have many workers.*")


class WaveData(L.LightningDataModule):
    def __init__(self, batch_size=50, seed=0):
        super().__init__()
        self.batch_size, self.seed = batch_size, seed

    def setup(self, stage=None):
        full = TensorDataset(*toydata.waves(1200, seed=20))
        generator = torch.Generator().manual_seed(self.seed)
        self.train_set, self.val_set = random_split(full, [1000, 200], generator=generator)
        self.test_set = TensorDataset(*toydata.waves(400, seed=21))

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=100)


class ResBlock(nn.Module):
    def __init__(self, channels, dilation):
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm1d(channels), nn.ReLU(),
            nn.Conv1d(channels, channels, 5, padding=2 * dilation, dilation=dilation),
            nn.BatchNorm1d(channels), nn.ReLU(),
            nn.Conv1d(channels, channels, 5, padding=2 * dilation, dilation=dilation),
        )

    def forward(self, x):
        return x + self.body(x)


class WaveClassifier(L.LightningModule):
    def __init__(self, channels=24, lr=3e-3, warmup=30, keep_last=0.6, ramp_epochs=6):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Conv1d(1, channels, 7, padding=3),
            ResBlock(channels, 1), nn.AvgPool1d(2), ResBlock(channels, 2),
            nn.BatchNorm1d(channels), nn.ReLU(),
            nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(channels, 4),
        )

    def forward(self, x):
        return self.net(x)

    def keep_fraction(self):
        ramp = min(1.0, self.current_epoch / self.hparams.ramp_epochs)
        return 1.0 - (1.0 - self.hparams.keep_last) * ramp

    def training_step(self, batch, batch_idx):
        x, y = batch
        losses = F.cross_entropy(self(x), y, reduction="none")
        kept = max(1, round(self.keep_fraction() * len(y)))
        hard = losses.topk(kept).values.mean()
        self.log("train_loss", losses.detach().mean(), on_step=False, on_epoch=True, batch_size=len(y))
        return hard

    def evaluate(self, batch, stage):
        x, y = batch
        logits = self(x)
        self.log(f"{stage}_loss", F.cross_entropy(logits, y), prog_bar=True, batch_size=len(y))
        self.log(f"{stage}_acc", (logits.argmax(dim=1) == y).float().mean(), prog_bar=True, batch_size=len(y))

    def validation_step(self, batch, batch_idx):
        self.evaluate(batch, "val")

    def test_step(self, batch, batch_idx):
        self.evaluate(batch, "test")

    def on_train_epoch_end(self):
        shown = {k: round(float(v), 4) for k, v in self.trainer.callback_metrics.items()}
        print(f"epoch {self.current_epoch}: keep {self.keep_fraction():.2f} {shown}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-2)
        total, warmup = int(self.trainer.estimated_stepping_batches), self.hparams.warmup

        def factor(step):
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(5)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = ModelCheckpoint(dirpath=folder, monitor="val_acc", mode="max", save_top_k=1)
        trainer = L.Trainer(
            max_epochs=12,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[checkpoint, EarlyStopping(monitor="val_loss", mode="min", patience=5)],
        )
        data, model = WaveData(), WaveClassifier()
        trainer.fit(model, datamodule=data)
        results = trainer.test(model, datamodule=data, ckpt_path="best", verbose=False)[0]
        print(f"best val acc {float(checkpoint.best_model_score):.3f}  test acc {results['test_acc']:.3f}")


if __name__ == "__main__":
    main()
