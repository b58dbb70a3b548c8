import tempfile

import lightning as L
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, Dataset

from toydata import Digits


def to_tensor(image):
    return (image.float() / 255 - 0.2) / 0.35


class TripletDigits(Dataset):
    """Of each digit: itself, another of the same class, one of another class."""

    def __init__(self, base, seed=0):
        self.base = base
        self.rng = np.random.default_rng(seed)
        labels = base.targets.numpy()
        self.same = {c: np.flatnonzero(labels == c) for c in range(10)}
        self.other = {c: np.flatnonzero(labels != c) for c in range(10)}

    def __len__(self):
        return len(self.base)

    def __getitem__(self, i):
        anchor, label = self.base[i]
        j = int(self.rng.choice(self.same[label]))
        while j == i:
            j = int(self.rng.choice(self.same[label]))
        k = int(self.rng.choice(self.other[label]))
        return anchor, self.base[j][0], self.base[k][0]


class DigitsDataModule(L.LightningDataModule):
    def __init__(self, batch_size=48):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        self.train_set = TripletDigits(Digits(train=True, transform=to_tensor))
        self.val_set = Digits(train=False, transform=to_tensor)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)


class EmbeddingNet(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.head = nn.Sequential(nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, dim))

    def forward(self, x):
        return F.normalize(self.head(self.backbone(x)), dim=1)


class TripletModule(L.LightningModule):
    def __init__(self, lr=2e-3, margin=0.4):
        super().__init__()
        self.save_hyperparameters()
        self.net = EmbeddingNet()
        self.val_outputs = []

    def forward(self, x):
        return self.net(x)

    def triplet_loss(self, anchor, positive, negative):
        return F.triplet_margin_loss(anchor, positive, negative, margin=self.hparams.margin)

    def training_step(self, batch, batch_idx):
        anchor, positive, negative = batch
        z = self(torch.cat([anchor, positive, negative]))
        za, zp, zn = z.chunk(3)
        loss = self.triplet_loss(za, zp, zn)
        self.log("train_loss", loss, on_epoch=True, on_step=False)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.val_outputs.append((self(x).float(), y))

    def on_validation_epoch_end(self):
        z = torch.cat([o[0] for o in self.val_outputs])
        y = torch.cat([o[1] for o in self.val_outputs])
        self.val_outputs.clear()
        similarity = z @ z.t()
        similarity.fill_diagonal_(-2)
        recall = (y[similarity.argmax(dim=1)] == y).float().mean()
        self.log("val_recall", recall)
        print(f"epoch {self.current_epoch} recall@1 {recall:.3f}")

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.net.parameters(), lr=self.hparams.lr)
        total = self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total, eta_min=1e-5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(7)
    folder = tempfile.mkdtemp()
    checkpoint = ModelCheckpoint(dirpath=folder, monitor="val_recall", mode="max", save_top_k=1)
    datamodule = DigitsDataModule()
    module = TripletModule()
    trainer = L.Trainer(
        max_epochs=6,
        accelerator="cpu",
        precision="32-true",
        callbacks=[checkpoint],
        logger=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=datamodule)
    best = TripletModule()
    best.load_state_dict(torch.load(checkpoint.best_model_path, weights_only=False)["state_dict"])
    trainer.validate(best, datamodule=datamodule, verbose=False)
    print("kept", checkpoint.best_model_path, float(checkpoint.best_model_score))


if __name__ == "__main__":
    main()
