"""Which sound does the machine make? A 1-D convolutional network on raw waves, in Lightning."""

import lightning as L
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

RATE, LENGTH = 8000, 1024
KINDS = ["hum", "whistle", "rattle", "hiss", "siren"]


def synthesize(kind, rng):
    """A short recording of 16-bit samples, as it would be read from a wav file."""
    time = np.arange(LENGTH) / RATE
    phase = rng.uniform(0, 2 * np.pi)
    if kind == "hum":
        angle = 2 * np.pi * rng.uniform(100, 160) * time + phase
        wave = np.sin(angle) + 0.5 * np.sin(2 * angle) + 0.25 * np.sin(3 * angle)
    elif kind == "whistle":
        wave = np.sin(2 * np.pi * rng.uniform(1200, 2200) * time + phase)
    elif kind == "rattle":
        clicks = np.zeros(LENGTH)
        period = int(rng.integers(90, 160))
        clicks[int(rng.integers(0, period)) :: period] = 1.0
        steps = np.arange(60)
        ring = np.exp(-steps / 12) * np.sin(2 * np.pi * 900 * steps / RATE)
        wave = np.convolve(clicks, ring)[:LENGTH]
    elif kind == "hiss":
        wave = np.convolve(rng.normal(size=LENGTH), np.ones(3) / 3, mode="same")
    else:
        start, rise = rng.uniform(300, 500), rng.uniform(4000, 7000)
        wave = np.sin(2 * np.pi * (start * time + 0.5 * rise * time**2) + phase)
    wave = rng.uniform(0.3, 0.9) * wave / np.abs(wave).max() + 0.03 * rng.normal(size=LENGTH)
    return (np.clip(wave, -1, 1) * 32767).astype(np.int16)


class SoundClips(Dataset):
    """Clips lie kind by kind, as folders are read."""

    def __init__(self, per_kind, seed, augment=False):
        rng = np.random.default_rng(seed)
        self.labels = [label for label in range(len(KINDS)) for _ in range(per_kind)]
        self.clips = [synthesize(KINDS[label], rng) for label in self.labels]
        self.augment = augment

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, index):
        wave = torch.from_numpy(self.clips[index]).float() / 32768
        if self.augment:
            wave = torch.roll(wave, int(torch.randint(LENGTH, ())))
            wave = wave * (0.7 + 0.6 * torch.rand(()))
        return wave.unsqueeze(0), self.labels[index]


class SoundData(L.LightningDataModule):
    def __init__(self, batch_size=32):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        self.train_set = SoundClips(480, seed=0, augment=True)
        self.val_set = SoundClips(100, seed=1)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=128)


def conv_block(inputs, outputs, kernel):
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, stride=2, padding=kernel // 2, bias=False),
        nn.BatchNorm1d(outputs),
        nn.ReLU(),
    )


class SoundNet(L.LightningModule):
    def __init__(self, num_classes=len(KINDS), lr=2e-3):
        super().__init__()
        self.save_hyperparameters()
        self.features = nn.Sequential(
            conv_block(1, 16, 15),
            conv_block(16, 32, 9),
            conv_block(32, 64, 5),
            conv_block(64, 64, 3),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
        )
        self.classifier = nn.Linear(64, num_classes)
        self.criterion = nn.CrossEntropyLoss()

    def forward(self, waves):
        return self.classifier(self.features(waves))

    def training_step(self, batch, batch_idx):
        waves, labels = batch
        loss = self.criterion(self(waves), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_validation_epoch_start(self):
        self.correct, self.seen, self.loss_sum = 0, 0, 0.0

    def validation_step(self, batch, batch_idx):
        waves, labels = batch
        logits = self(waves)
        self.loss_sum += F.cross_entropy(logits, labels, reduction="sum").item()
        self.correct += (logits.argmax(dim=1) == labels).sum().item()
        self.seen += len(labels)

    def on_validation_epoch_end(self):
        accuracy = self.correct / self.seen
        self.log("val_acc", accuracy)
        print(f"epoch {self.current_epoch}: val_loss {self.loss_sum / self.seen:.4f} val_acc {accuracy:.4f}")

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.3)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"},
        }


if __name__ == "__main__":
    L.seed_everything(42)
    trainer = L.Trainer(
        max_epochs=14,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(SoundNet(), datamodule=SoundData())
