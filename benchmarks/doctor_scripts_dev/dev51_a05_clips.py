"""Which way does it move? Short clips cut from longer videos, a small 3D CNN, Lightning."""

import random
import tempfile

import lightning as L
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.model_selection import GroupShuffleSplit
from torch.utils.data import DataLoader, Dataset

import toydata

MOTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
KINDS = ("square", "disc", "cross")


def film(count, frames=12, side=16, seed=0):
    """Videos as a decoder returns them: uint8 arrays of frames x height x width x 3."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(MOTIONS), count).tolist()
    videos = []
    for label in labels:
        dy, dx = list(MOTIONS.values())[label]
        color = list(toydata.COLORS.values())[int(rng.integers(2))]
        width = int(rng.integers(4, 7))
        top, left = rng.integers(0, side - width + 1, 2).tolist()
        mask = toydata.shape_mask(KINDS[int(rng.integers(3))], side, top, left, width).numpy()
        speed = float(rng.uniform(0.7, 1.2))
        ground = rng.uniform(0.35, 0.65, (side // 4, side // 4, 3)).repeat(4, 0).repeat(4, 1)
        video = np.repeat(ground[None], frames, axis=0)
        for t in range(frames):
            moved = np.roll(mask, (round(dy * speed * t), round(dx * speed * t)), (0, 1))
            video[t, moved] = color
        video = video + rng.normal(0, 0.04, video.shape)
        videos.append((video.clip(0, 1) * 255).astype(np.uint8))
    return videos, labels


class ClipDataset(Dataset):
    def __init__(self, videos, labels, windows, length, augment):
        self.videos, self.labels, self.windows = videos, labels, windows
        self.length, self.augment = length, augment

    def __len__(self):
        return len(self.windows)

    def __getitem__(self, index):
        video, start = self.windows[index].tolist()
        label = self.labels[video]
        frames = torch.from_numpy(self.videos[video][start : start + self.length])
        clip = frames.permute(3, 0, 1, 2).float() / 255
        if self.augment:
            clip = clip * random.uniform(0.85, 1.15)
            clip = clip + 0.02 * torch.randn_like(clip)
        return (clip - 0.5) / 0.2, label


class ClipData(L.LightningDataModule):
    def __init__(self, count=220, length=8, stride=1, batch_size=32):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        h = self.hparams
        videos, labels = film(h.count)
        windows = [(v, s) for v in range(h.count) for s in range(0, len(videos[v]) - h.length + 1, h.stride)]
        windows = np.array(windows)
        splitter = GroupShuffleSplit(n_splits=1, test_size=0.25, random_state=0)
        train_rows, val_rows = next(splitter.split(windows, groups=windows[:, 0]))
        self.train_set = ClipDataset(videos, labels, windows[train_rows], h.length, augment=True)
        self.val_set = ClipDataset(videos, labels, windows[val_rows], h.length, augment=False)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=self.hparams.batch_size)


def block(cin, cout, pool):
    return nn.Sequential(
        nn.Conv3d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm3d(cout), nn.ReLU(), nn.MaxPool3d(pool))


class MotionClassifier(L.LightningModule):
    def __init__(self, lr=3e-3, weight_decay=1e-3, max_epochs=12):
        super().__init__()
        self.save_hyperparameters()
        self.backbone = nn.Sequential(
            block(3, 12, (1, 2, 2)), block(12, 24, (2, 2, 2)), block(24, 48, (2, 2, 2)),
            nn.AdaptiveAvgPool3d(1), nn.Flatten())
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(48, len(MOTIONS)))

    def forward(self, clips):
        return self.head(self.backbone(clips))

    def training_step(self, batch, batch_idx):
        clips, labels = batch
        loss = F.cross_entropy(self(clips), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss

    def validation_step(self, batch, batch_idx):
        clips, labels = batch
        logits = self(clips)
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        self.log("val_loss", F.cross_entropy(logits, labels), batch_size=len(labels))
        self.log("val_acc", accuracy, batch_size=len(labels))

    def on_validation_epoch_end(self):
        metrics = self.trainer.callback_metrics
        if "val_acc" in metrics:
            print(f"epoch {self.current_epoch:2d}  val_acc {metrics['val_acc'].item():.4f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.hparams.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def main():
    L.seed_everything(3)
    folder = tempfile.mkdtemp()
    data = ClipData()
    model = MotionClassifier()
    checkpoint = ModelCheckpoint(dirpath=folder, monitor="val_acc", mode="max", save_top_k=1)
    trainer = L.Trainer(
        max_epochs=model.hparams.max_epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        callbacks=[checkpoint],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )
    trainer.fit(model, datamodule=data)
    best = torch.load(checkpoint.best_model_path, weights_only=False)
    model.load_state_dict(best["state_dict"])
    trainer.validate(model, datamodule=data)


if __name__ == "__main__":
    main()
