"""Read the pressure (kPa) off pictures of an analogue dial gauge."""
import argparse
import math
import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset


@dataclass
class Cfg:
    n_train: int = 1500
    n_val: int = 300
    size: int = 32
    full_scale: float = 1000.0
    epochs: int = 14
    bs: int = 64
    max_lr: float = 4e-3
    seed: int = 7


def render_gauge(value, cfg, rng):
    """Dial from 225 deg (empty) over 90 deg (half) to -45 deg (full)."""
    s = cfg.size
    theta = math.radians(225.0 - 270.0 * value / cfg.full_scale)
    yy, xx = np.mgrid[0:s, 0:s].astype(np.float32)
    cx, cy = s / 2 - 0.5 + rng.uniform(-1, 1), s / 2 - 0.5 + rng.uniform(-1, 1)
    dx, dy = xx - cx, cy - yy
    r = np.hypot(dx, dy)
    along = dx * math.cos(theta) + dy * math.sin(theta)
    across = np.abs(-dx * math.sin(theta) + dy * math.cos(theta))
    img = np.full((s, s), rng.uniform(0.75, 0.95), np.float32)
    img[np.abs(r - s * 0.45) < 0.8] = 0.35
    img[(across < 1.1) & (along > -1) & (along < s * 0.38)] = rng.uniform(0.0, 0.2)
    img += rng.normal(0, 0.04, img.shape)
    return (img.clip(0, 1) * 255).astype(np.uint8)


class GaugeDataset(Dataset):
    def __init__(self, n, cfg, seed, augment=False):
        rng = np.random.default_rng(seed)
        self.kpa = rng.uniform(0, cfg.full_scale, n).astype(np.float32)
        self.pics = [render_gauge(v, cfg, rng) for v in self.kpa]
        self.augment = augment
        self.cfg = cfg

    def __len__(self):
        return len(self.kpa)

    def __getitem__(self, i):
        pic = self.pics[i].astype(np.float32) / 255.0
        kpa = self.kpa[i]
        if self.augment:
            pic = pic * random.uniform(0.85, 1.1)
        pic = (pic - 0.75) / 0.25
        # -1.7 .. 1.7, about unit variance
        target = (kpa / self.cfg.full_scale - 0.5) * math.sqrt(12)
        return torch.tensor(np.ascontiguousarray(pic)[None]), torch.tensor(target, dtype=torch.float32)


class GaugeNet(nn.Module):
    def __init__(self, width=12):
        super().__init__()
        chans = [1, width, 2 * width, 2 * width]
        stages = []
        for cin, cout in zip(chans, chans[1:]):
            stages += [nn.Conv2d(cin, cout, 3, stride=2, padding=1), nn.BatchNorm2d(cout), nn.ReLU()]
        self.stem = nn.Sequential(*stages)
        self.fc = nn.Sequential(
            nn.Flatten(),
            nn.Linear(2 * width * 16, 64),
            nn.ReLU(),
            nn.Linear(64, 1),
        )

    def forward(self, x):
        return self.fc(self.stem(x)).squeeze(-1)


def to_kpa(y, cfg):
    return (y / math.sqrt(12) + 0.5) * cfg.full_scale


@torch.no_grad()
def evaluate(net, loader, cfg):
    net.eval()
    abs_err, hits, n = 0.0, 0, 0
    for x, y in loader:
        err = (to_kpa(net(x).flatten(), cfg) - to_kpa(y, cfg)).abs()
        abs_err += err.sum().item()
        hits += (err < 0.04 * cfg.full_scale).sum().item()
        n += len(y)
    return abs_err / n, hits / n


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--epochs", type=int, default=Cfg.epochs)
    p.add_argument("--max-lr", type=float, default=Cfg.max_lr)
    a = p.parse_args()
    cfg = Cfg(epochs=a.epochs, max_lr=a.max_lr)
    torch.manual_seed(cfg.seed)
    random.seed(cfg.seed)

    train_dl = DataLoader(GaugeDataset(cfg.n_train, cfg, seed=1, augment=True), batch_size=cfg.bs, shuffle=True)
    val_dl = DataLoader(GaugeDataset(cfg.n_val, cfg, seed=2), batch_size=100)

    net = GaugeNet()
    opt = torch.optim.AdamW(net.parameters(), lr=cfg.max_lr, weight_decay=1e-3)
    sched = torch.optim.lr_scheduler.OneCycleLR(
        opt, max_lr=cfg.max_lr, total_steps=cfg.epochs * len(train_dl))

    for epoch in range(cfg.epochs):
        net.train()
        running = 0.0
        for x, y in train_dl:
            pred = net(x)
            loss = F.mse_loss(pred, y)
            opt.zero_grad(set_to_none=True)
            loss.backward()
            opt.step()
            sched.step()
            running += loss.item() * len(y)
        mae, within = evaluate(net, val_dl, cfg)
        print(f"epoch {epoch:2d}  mse {running / len(train_dl.dataset):.4f}  val MAE {mae:6.1f} kPa  within 4%: {within:.1%}")


if __name__ == "__main__":
    main()
