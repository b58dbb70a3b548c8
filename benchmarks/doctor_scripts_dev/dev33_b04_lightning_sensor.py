"""Classify vibration signals of a 12 bit sensor with a 1-D CNN (PyTorch Lightning)."""
import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import waves

EVAL_BATCH = 256


class SensorDataset(Dataset):
    """Readings of the converter (0..4095, idle at 2048) -> standardized signals."""

    def __init__(self, readings, labels, mean, std, augment=False):
        self.readings = readings
        self.labels = labels
        self.mean, self.std = mean, std
        self.augment = augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, idx):
        signal = (self.readings[idx] - self.mean) / self.std
        if self.augment:
            signal = self.add_noise(signal * (0.8 + 0.4 * torch.rand(1)))
        return signal, self.labels[idx]

    @staticmethod
    def add_noise(signal, low_db=10.0, high_db=30.0):
        """White noise at a random signal-to-noise ratio."""
        snr_db = low_db + (high_db - low_db) * torch.rand(1)
        power = signal.pow(2).mean() * 10 ** (-snr_db / 10)
        return signal + power.sqrt() * torch.randn_like(signal)


class SensorData(L.LightningDataModule):
    def __init__(self, batch_size=64):
        super().__init__()
        self.batch_size = batch_size

    def record(self, count, seed):
        signals, labels = waves(count, length=128, seed=seed)
        return (2048 + 700 * signals).round().clamp(0, 4095), labels

    def setup(self, stage=None):
        train_x, train_y = self.record(2400, seed=0)
        val_x, val_y = self.record(300, seed=1)
        mean, std = train_x.mean(), train_x.std()
        self.train_set = SensorDataset(train_x, train_y, mean, std, augment=True)
        self.val_set = SensorDataset(val_x, val_y, mean, std)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=EVAL_BATCH)


def conv_block(c_in, c_out, kernel, stride=1):
    return nn.Sequential(
        nn.Conv1d(c_in, c_out, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm1d(c_out),
        nn.ReLU(inplace=True),
    )


class SensorNet(L.LightningModule):
    def __init__(self, num_classes=4, lr=2e-3, gamma=0.9, weight_decay=1e-2):
        super().__init__()
        self.save_hyperparameters()
        self.features = nn.Sequential(
            conv_block(1, 32, 9, stride=2),
            conv_block(32, 64, 5, stride=2),
            conv_block(64, 64, 5),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
        )
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(64, num_classes)
        self.hits = self.seen = 0
        self.val_loss = 0.0

    def forward(self, x):
        return self.classifier(self.dropout(self.features(x)))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_validation_epoch_start(self):
        self.hits = self.seen = 0
        self.val_loss = 0.0

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.val_loss += F.cross_entropy(logits, y, reduction="sum").item()
        self.hits += (logits.argmax(dim=1) == y).sum().item()
        self.seen += y.size(0)

    def on_validation_epoch_end(self):
        acc = self.hits / self.seen
        print(f"epoch {self.current_epoch:2d}  val_loss {self.val_loss / self.seen:.4f}  val_acc {acc:.4f}")
        self.log("val_acc", acc)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay
        )
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=self.hparams.gamma)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"},
        }


def main():
    L.seed_everything(3)
    trainer = L.Trainer(
        max_epochs=24,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(SensorNet(), datamodule=SensorData())
    print("final val_acc", float(trainer.callback_metrics["val_acc"]))


if __name__ == "__main__":
    main()
