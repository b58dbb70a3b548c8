"""Which fruits lie in the bowl? Several labels for an image, with Lightning."""

import warnings

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")
FRUITS = ["apple", "banana", "plum", "kiwi", "orange"]
KIWI = FRUITS.index("kiwi")
SHARE = np.array([0.4, 0.4, 0.35, 0.12, 0.4])


def draw_bowl(present, rng):
    y, x = np.mgrid[:32, :32].astype(float)
    image = np.ones((32, 32, 3)) * rng.uniform(0.5, 0.8) + rng.uniform(-0.08, 0.08, 3)
    places = rng.permutation(9)
    for place, fruit in zip(places, np.flatnonzero(present)):
        cy, cx = 6 + 10 * (place // 3) + rng.uniform(-2, 2), 6 + 10 * (place % 3) + rng.uniform(-2, 2)
        radius = rng.uniform(3.2, 4.8)
        distance = np.hypot(y - cy, x - cx)
        if FRUITS[fruit] == "apple":
            image[distance < radius] = (0.75, 0.1, 0.15) if rng.random() < 0.5 else (0.5, 0.75, 0.2)
            image[(abs(x - cx) < 0.8) & (y < cy - radius + 2) & (y > cy - radius - 1)] = (0.3, 0.2, 0.1)
        elif FRUITS[fruit] == "banana":
            turn = rng.uniform(0, np.pi)
            p = np.cos(turn) * (x - cx) + np.sin(turn) * (y - cy)
            q = -np.sin(turn) * (x - cx) + np.cos(turn) * (y - cy)
            image[(abs(p) < radius) & (abs(q - 0.08 * p**2 + 0.5) < 1.3)] = (0.95, 0.85, 0.2)
        elif FRUITS[fruit] == "plum":
            image[distance < 0.8 * radius] = (0.35, 0.1, 0.4)
        elif FRUITS[fruit] == "kiwi":
            image[distance < radius] = (0.4, 0.3, 0.15)
            image[distance < 0.65 * radius] = (0.5, 0.75, 0.25)
        else:
            image[distance < radius] = (0.95, 0.55, 0.1)
    image = image * rng.uniform(0.7, 1.1) + rng.normal(0, 0.08, image.shape)
    return image.clip(0, 1).astype(np.float32)


class BowlData(L.LightningDataModule):
    def __init__(self, count=1300, batch_size=32):
        super().__init__()
        self.count, self.batch_size = count, batch_size

    def setup(self, stage=None):
        rng = np.random.default_rng(0)
        labels = (rng.random((self.count, len(FRUITS))) < SHARE).astype(np.float32)
        images = np.stack([draw_bowl(row, rng) for row in labels])
        order = rng.permutation(len(images))
        train, valid = order[:1000], order[1000:]
        # few bowls hold a kiwi: show these three times as often
        rare = train[labels[train, KIWI] == 1]
        train = np.concatenate([train, rare, rare])
        mean, std = images[train].mean((0, 1, 2)), images[train].std((0, 1, 2))
        pixels = torch.from_numpy(((images - mean) / std).transpose(0, 3, 1, 2).copy()).float()
        labels = torch.from_numpy(labels)
        self.train_set = TensorDataset(pixels[train], labels[train])
        self.valid_set = TensorDataset(pixels[valid], labels[valid])

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.valid_set, batch_size=100)


class BowlNet(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        )
        self.head = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, len(FRUITS)))
        self.losses = []

    def forward(self, x):
        return self.head(self.body(x))

    def training_step(self, batch, batch_idx):
        x, y = batch
        if torch.rand(()) < 0.5:
            x = x.flip(3)
        loss = F.binary_cross_entropy_with_logits(self(x), y)
        self.losses.append(loss.item())
        return loss

    def on_validation_epoch_start(self):
        self.hits = self.false = self.missed = self.exact = self.seen = 0

    def validation_step(self, batch, batch_idx):
        x, y = batch
        found, there = self(x) > 0, y > 0.5
        self.hits += (found & there).sum().item()
        self.false += (found & ~there).sum().item()
        self.missed += (~found & there).sum().item()
        self.exact += (found == there).all(1).sum().item()
        self.seen += len(y)

    def on_validation_epoch_end(self):
        f1 = 2 * self.hits / max(2 * self.hits + self.false + self.missed, 1)
        loss = float(np.mean(self.losses))
        print(f"epoch {self.current_epoch}: loss {loss:.4f}  F1 {f1:.4f}  all right {self.exact / self.seen:.4f}")
        self.losses.clear()

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=2e-3)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.85)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}


if __name__ == "__main__":
    torch.set_num_threads(1)
    L.seed_everything(1)
    trainer = L.Trainer(
        max_epochs=15, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )
    trainer.fit(BowlNet(), datamodule=BowlData())
