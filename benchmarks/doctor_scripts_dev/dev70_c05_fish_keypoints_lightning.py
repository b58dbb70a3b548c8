import copy
import logging
import math
import warnings

import lightning as L
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Dataset

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

SIDE = 32
BATCH = 32
EPOCHS = 10
BASE_LR = 2e-3
WARMUP = 30


def draw_fish(n, seed):
    """Pictures of a tapering body; the targets are head (x, y) and tail (x, y) in pixels."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    images = np.empty((n, 1, SIDE, SIDE), dtype=np.float32)
    points = np.empty((n, 4), dtype=np.float32)
    for i in range(n):
        head = rng.uniform(5, SIDE - 6, size=2)
        while True:
            ang, length = rng.uniform(0, 2 * np.pi), rng.uniform(9, 15)
            tail = head + length * np.array([np.cos(ang), np.sin(ang)])
            if (tail > 2).all() and (tail < SIDE - 3).all():
                break
        body = np.zeros((SIDE, SIDE), dtype=np.float32)
        for s in np.linspace(0, 1, 14):
            px, py = head + s * (tail - head)
            width = 2.4 - 1.6 * s
            body = np.maximum(body, np.exp(-((xx - px) ** 2 + (yy - py) ** 2) / (2 * width ** 2)))
        gx, gy = rng.normal(0, 0.02, size=2)
        images[i, 0] = rng.uniform(0.7, 1.3) * body + gx * xx + gy * yy + rng.normal(0, 0.15, size=(SIDE, SIDE))
        points[i] = [head[0], head[1], tail[0], tail[1]]
    return images, points


class FishDataset(Dataset):
    def __init__(self, images, points, scaler, augment=False):
        self.images, self.points = images, points
        self.scaler, self.augment = scaler, augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        img, pts = self.images[i].copy(), self.points[i].copy()
        if self.augment and torch.rand(1).item() < 0.5:
            img = img[:, :, ::-1].copy()
            pts[0::2] = SIDE - 1 - pts[0::2]
        pts = self.scaler.transform(pts[None])[0]
        return torch.from_numpy(img), torch.from_numpy(pts.astype(np.float32))


class KeypointModule(L.LightningModule):
    def __init__(self, target_mean, target_scale):
        super().__init__()
        self.register_buffer("t_mean", torch.tensor(target_mean, dtype=torch.float32))
        self.register_buffer("t_scale", torch.tensor(target_scale, dtype=torch.float32))
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(),
        )
        self.head = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(48 * 16, 128), nn.ReLU(), nn.Linear(128, 4))

    def forward(self, x):
        return self.head(self.features(x))

    def pixel_error(self, pred, target):
        gap = (pred - target) * self.t_scale
        return gap.view(-1, 2, 2).norm(dim=2).mean()

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.smooth_l1_loss(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(x))
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_px", self.pixel_error(self(x), y), batch_size=len(x))

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.log("test_px", self.pixel_error(self(x), y), batch_size=len(x))

    def configure_optimizers(self):
        opt = torch.optim.AdamW(self.parameters(), lr=BASE_LR, weight_decay=1e-3)
        total = self.trainer.estimated_stepping_batches

        def factor(step):
            if step < WARMUP:
                return (step + 1) / WARMUP
            return 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / max(1, total - WARMUP)))

        sched = torch.optim.lr_scheduler.LambdaLR(opt, factor)
        return {"optimizer": opt, "lr_scheduler": {"scheduler": sched, "interval": "step"}}


class KeepBest(L.Callback):
    def __init__(self):
        self.best, self.state = float("inf"), None

    def on_validation_epoch_end(self, trainer, module):
        value = trainer.callback_metrics["val_px"].item()
        if value < self.best:
            self.best, self.state = value, copy.deepcopy(module.state_dict())
        print(f"epoch {trainer.current_epoch:2d}  val error {value:.3f} px")

    def on_train_end(self, trainer, module):
        module.load_state_dict(self.state)


def main():
    L.seed_everything(11)
    (xtr, ytr), (xva, yva), (xte, yte) = draw_fish(960, 1), draw_fish(250, 2), draw_fish(300, 3)
    mean, std = xtr.mean(), xtr.std()
    xtr, xva, xte = [(x - mean) / std for x in (xtr, xva, xte)]
    scaler = StandardScaler().fit(ytr)
    blind = np.linalg.norm((yte - scaler.mean_).reshape(-1, 2, 2), axis=2).mean()
    print(f"mean predictor {blind:.2f} px")

    train_dl = DataLoader(FishDataset(xtr, ytr, scaler, augment=True), batch_size=BATCH, shuffle=True, drop_last=True)
    val_dl = DataLoader(FishDataset(xva, yva, scaler), batch_size=250)
    test_dl = DataLoader(FishDataset(xte, yte, scaler), batch_size=300)

    module = KeypointModule(scaler.mean_, scaler.scale_)
    trainer = L.Trainer(max_epochs=EPOCHS, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
                        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
                        callbacks=[KeepBest()])
    trainer.fit(module, train_dl, val_dl)
    result = trainer.test(module, test_dl, verbose=False)[0]
    print(f"test error {result['test_px']:.3f} px")


if __name__ == "__main__":
    main()
