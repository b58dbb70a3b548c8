"""Read a gauge: a convolutional network regresses the value (in bar) that a needle shows."""

import argparse
import math
import os
import tempfile
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


@dataclass
class Config:
    size: int = 24
    train_count: int = 1000
    val_count: int = 250
    batch_size: int = 25
    epochs: int = 14
    lr: float = 2e-3
    weight_decay: float = 1e-4
    max_norm: float = 5.0
    accumulate: int = 1
    patience: int = 6
    full_scale: float = 250.0


def draw_gauge(value, cfg, generator):
    """A needle from the center; 0 bar points down left, full scale down right, 270 degrees in between."""
    angle = math.radians(225 - 270 * value / cfg.full_scale)
    center = (cfg.size - 1) / 2 + 0.5 * torch.randn(2, generator=generator)
    y, x = torch.meshgrid(torch.arange(cfg.size).float(), torch.arange(cfg.size).float(), indexing="ij")
    dx, dy = x - center[1], center[0] - y
    along = dx * math.cos(angle) + dy * math.sin(angle)
    across = (-dx * math.sin(angle) + dy * math.cos(angle)).abs()
    needle = ((along > -2) & (along < cfg.size * 0.4)).float() * (1.6 - across).clamp(0, 1)
    rim = ((dx**2 + dy**2).sqrt() - cfg.size * 0.45).abs() < 0.8
    image = 0.85 - 0.7 * needle - 0.3 * rim.float()
    light = 0.85 + 0.3 * torch.rand((), generator=generator)
    return (image * light + 0.04 * torch.randn(image.shape, generator=generator)).clamp(0, 1)[None]


class Gauges(Dataset):
    def __init__(self, count, seed, cfg, augment=False, stats=None):
        generator = torch.Generator().manual_seed(seed)
        self.values = cfg.full_scale * torch.rand(count, generator=generator).sqrt()
        self.images = torch.stack([draw_gauge(float(value), cfg, generator) for value in self.values])
        self.augment = augment
        self.mean, self.std = stats or (self.values.mean().item(), self.values.std().item())

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        image = self.images[index]
        if self.augment:
            image = image * (0.9 + 0.2 * torch.rand(()))
            dy, dx = torch.randint(-1, 2, (2,)).tolist()
            image = image.roll((dy, dx), (1, 2))
        return (image - 0.6) / 0.25, (self.values[index] - self.mean) / self.std


class Regressor(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1, stride=2)
        self.conv2 = nn.Conv2d(width, width * 2, 3, padding=1, stride=2)
        self.conv3 = nn.Conv2d(width * 2, width * 2, 3, padding=1)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm2d(width), nn.BatchNorm2d(width * 2), nn.BatchNorm2d(width * 2)
        self.fc1 = nn.Linear(width * 2 * 36, 64)
        self.fc2 = nn.Linear(64, 1)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(x)))
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(x).squeeze(-1)


class Trainer:
    def __init__(self, cfg, model, train_set, val_set, folder):
        self.cfg, self.model, self.folder = cfg, model, folder
        self.train_loader = DataLoader(train_set, cfg.batch_size, shuffle=True)
        self.val_loader = DataLoader(val_set, 100)
        self.mean, self.std = train_set.mean, train_set.std
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, mode="min", factor=0.3, patience=1)
        self.best, self.waited = float("inf"), 0

    def train_epoch(self):
        self.model.train()
        total = 0.0
        self.optimizer.zero_grad()
        for step, (images, targets) in enumerate(self.train_loader, 1):
            outputs = self.model(images)
            loss = F.mse_loss(outputs, targets)
            (loss / self.cfg.accumulate).backward()
            if step % self.cfg.accumulate == 0:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.cfg.max_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
            total += loss.item() * len(images)
        return total / len(self.train_loader.dataset)

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        predictions, truths = [], []
        for images, targets in self.val_loader:
            predictions.append(self.model(images) * self.std + self.mean)
            truths.append(targets * self.std + self.mean)
        prediction, truth = torch.cat(predictions), torch.cat(truths)
        mae = (prediction - truth).abs().mean().item()
        r2 = 1 - ((prediction - truth) ** 2).sum().item() / ((truth - truth.mean()) ** 2).sum().item()
        return mae, r2

    def fit(self):
        for epoch in range(self.cfg.epochs):
            loss = self.train_epoch()
            mae, r2 = self.evaluate()
            self.scheduler.step(mae)
            rate = self.optimizer.param_groups[0]["lr"]
            print(f"epoch {epoch:2d} loss {loss:.4f} val mae {mae:.2f} bar r2 {r2:.4f} lr {rate:.1e}")
            if mae < self.best:
                self.best, self.waited = mae, 0
                torch.save(self.model.state_dict(), os.path.join(self.folder, "best.pt"))
            else:
                self.waited += 1
                if self.waited > self.cfg.patience:
                    print("no better for a while: stop")
                    break
        self.model.load_state_dict(torch.load(os.path.join(self.folder, "best.pt")))
        return self.evaluate()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=Config.epochs)
    parser.add_argument("--accumulate", type=int, default=Config.accumulate)
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    cfg = Config(epochs=args.epochs, accumulate=args.accumulate)

    train_set = Gauges(cfg.train_count, seed=1, cfg=cfg, augment=True)
    val_set = Gauges(cfg.val_count, seed=2, cfg=cfg, stats=(train_set.mean, train_set.std))
    trainer = Trainer(cfg, Regressor(), train_set, val_set, tempfile.mkdtemp())
    mae, r2 = trainer.fit()
    print(f"best model: mae {mae:.2f} bar, r2 {r2:.4f}")


if __name__ == "__main__":
    main()
