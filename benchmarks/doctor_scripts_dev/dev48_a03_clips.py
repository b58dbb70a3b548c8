"""Which way does it move? Short gray clips, a convolutional encoder of frames and a GRU over time."""

import tempfile

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

# (dy, dx, growth) for each unit of time
MOTIONS = {
    "left": (0.0, -1.0, 0.0),
    "right": (0.0, 1.0, 0.0),
    "up": (-1.0, 0.0, 0.0),
    "down": (1.0, 0.0, 0.0),
    "grow": (0.0, 0.0, 0.4),
    "shrink": (0.0, 0.0, -0.4),
}


def render_clip(motion, rng, size, frames):
    """One clip as a volume of height x width x time, the order in which the recorder writes it."""
    dy, dx, growth = motion
    yy, xx = np.mgrid[:size, :size]
    cy, cx = rng.uniform(7, size - 8, size=2)
    radius, speed = rng.uniform(2.5, 3.5), rng.uniform(0.5, 0.9)
    volume = np.zeros((size, size, frames), dtype=np.float32)
    for t in range(frames):
        s = speed * (t - (frames - 1) / 2)
        distance = np.sqrt((yy - cy - dy * s) ** 2 + (xx - cx - dx * s) ** 2)
        volume[:, :, t] = 1 / (1 + np.exp(2 * (distance - radius - growth * s)))
    return volume + rng.normal(0, 0.15, volume.shape)


class ClipDataModule(L.LightningDataModule):
    def __init__(self, size=20, frames=8, batch_size=32):
        super().__init__()
        self.save_hyperparameters()

    def _make(self, per_class, seed):
        rng = np.random.default_rng(seed)
        labels = np.repeat(np.arange(len(MOTIONS)), per_class)
        motions = list(MOTIONS.values())
        size, frames = self.hparams.size, self.hparams.frames
        volumes = np.stack([render_clip(motions[label], rng, size, frames) for label in labels])
        clips = torch.from_numpy(volumes).float()
        clips = clips.permute(0, 3, 1, 2).contiguous()
        clips = (clips - 0.08) / 0.3
        return TensorDataset(clips.unsqueeze(2), torch.from_numpy(labels).long())

    def setup(self, stage=None):
        self.train_set = self._make(150, seed=0)
        self.val_set = self._make(40, seed=1)
        self.test_set = self._make(40, seed=2)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=80)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=80)


class MotionNet(L.LightningModule):
    def __init__(self, classes=6, hidden=64, lr=2e-3):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 12, 3, stride=2, padding=1),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Conv2d(12, 24, 3, stride=2, padding=1),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(24 * 5 * 5, 64),
            nn.ReLU(),
        )
        self.gru = nn.GRU(64, hidden, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(hidden, classes))
        self.criterion = nn.CrossEntropyLoss()

    def forward(self, clips):
        batch, time = clips.shape[:2]
        features = self.encoder(clips.flatten(0, 1))
        states, _ = self.gru(features.view(batch, time, -1))
        return self.head(states[:, -1])

    def training_step(self, batch, batch_idx):
        clips, labels = batch
        loss = self.criterion(self(clips), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss

    def _shared_eval(self, batch, prefix):
        clips, labels = batch
        logits = self(clips)
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        self.log(f"{prefix}_loss", self.criterion(logits, labels), batch_size=len(labels))
        self.log(f"{prefix}_acc", accuracy, batch_size=len(labels))

    def validation_step(self, batch, batch_idx):
        self._shared_eval(batch, "val")

    def test_step(self, batch, batch_idx):
        self._shared_eval(batch, "test")

    def on_validation_epoch_end(self):
        metrics = self.trainer.callback_metrics
        if "val_acc" in metrics:
            print(f"epoch {self.current_epoch}: val_acc {float(metrics['val_acc']):.3f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-2)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


if __name__ == "__main__":
    L.seed_everything(11)
    checkpoint = ModelCheckpoint(dirpath=tempfile.mkdtemp(), monitor="val_acc", mode="max", save_top_k=1)
    trainer = L.Trainer(
        max_epochs=10,
        accelerator="cpu",
        devices=1,
        logger=False,
        callbacks=[checkpoint],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    data = ClipDataModule()
    model = MotionNet(classes=len(MOTIONS))
    trainer.fit(model, datamodule=data)
    results = trainer.test(model, datamodule=data, ckpt_path="best", verbose=False)
    print({name: round(value, 4) for name, value in results[0].items()})
