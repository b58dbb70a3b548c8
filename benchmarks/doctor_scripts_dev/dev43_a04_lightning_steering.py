"""Steering by camera: how far left (-1) or right (+1) is the object? A small PilotNet with Lightning."""

import tempfile

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class DrivingDataset(Dataset):
    """Frames 3 x 16 x 16 and steering angles; training frames are mirrored half of the time."""

    def __init__(self, frames, angles, mirror=False):
        self.frames, self.angles, self.mirror = frames, angles, mirror

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, index):
        frame, angle = self.frames[index], self.angles[index]
        if self.mirror and torch.rand(()) < 0.5:
            frame, angle = frame.flip(-1), -angle
        return (frame - 0.5) / 0.18, angle


def load_drive(train):
    shapes = Shapes(train=train)
    frames, boxes = torch.stack(shapes.images), torch.stack(shapes.boxes)
    angles = boxes[:, 0] + boxes[:, 2] - 1
    return frames, angles


class DrivingData(L.LightningDataModule):
    def __init__(self, batch_size=32):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage):
        if stage == "fit":
            frames, angles = load_drive(train=True)
            order = torch.randperm(len(frames), generator=torch.Generator().manual_seed(3))
            train, val = order[:750], order[750:]
            self.train_set = DrivingDataset(frames[train], angles[train], mirror=True)
            self.val_set = DrivingDataset(frames[val], angles[val])
        if stage == "test":
            self.test_set = DrivingDataset(*load_drive(train=False))

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=self.batch_size)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=self.batch_size)


class PilotNet(L.LightningModule):
    def __init__(self, max_lr=2e-3, weight_decay=1e-4):
        super().__init__()
        self.save_hyperparameters()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2, padding=2),
            nn.ELU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ELU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ELU(),
            nn.Flatten(),
        )
        self.regressor = nn.Sequential(nn.Linear(32 * 4 * 4, 64), nn.ELU(), nn.Linear(64, 1))

    def forward(self, frames):
        return self.regressor(self.features(frames)).squeeze(1)

    def training_step(self, batch, batch_idx):
        frames, angles = batch
        loss = F.mse_loss(self(frames), angles)
        self.log("train_mse", loss, on_step=False, on_epoch=True, batch_size=len(frames))
        return loss

    def evaluate(self, batch, name):
        frames, angles = batch
        error = self(frames) - angles
        self.log(f"{name}_mae", error.abs().mean(), batch_size=len(frames))
        self.log(f"{name}_mse", error.square().mean(), batch_size=len(frames))

    def validation_step(self, batch, batch_idx):
        self.evaluate(batch, "val")

    def test_step(self, batch, batch_idx):
        self.evaluate(batch, "test")

    def on_train_epoch_end(self):
        metrics = {name: round(value.item(), 4) for name, value in self.trainer.callback_metrics.items()}
        print(f"epoch {self.current_epoch}: {metrics}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.hparams.max_lr, weight_decay=self.hparams.weight_decay
        )
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.max_lr, total_steps=self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(5)
    folder = tempfile.mkdtemp()
    checkpoint = ModelCheckpoint(dirpath=folder, filename="best", monitor="val_mae", mode="min", save_top_k=1)
    trainer = L.Trainer(
        max_epochs=12,
        accelerator="cpu",
        devices=1,
        callbacks=[checkpoint],
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model, data = PilotNet(), DrivingData()
    trainer.fit(model, datamodule=data)
    result = trainer.test(model, datamodule=data, ckpt_path="best", verbose=False)[0]
    print(f"best validation MAE {checkpoint.best_model_score:.4f}, test MAE {result['test_mae']:.4f}")


if __name__ == "__main__":
    main()
