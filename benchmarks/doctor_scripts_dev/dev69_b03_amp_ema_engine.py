"""Texture classification with a plain training engine.

Features: bfloat16 autocast, gradient accumulation, EMA of the weights,
linear warmup + cosine decay, best checkpoint kept on disk.
"""
import copy
import math
import os
import tempfile
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, random_split


@dataclass
class Config:
    epochs: int = 16
    batch_size: int = 16
    accum_steps: int = 8
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_steps: int = 16
    ema_decay: float = 0.97
    num_classes: int = 8
    image_size: int = 20
    seed: int = 7


class GratingDataset(Dataset):
    """Oriented gratings with random phase, frequency and additive noise."""

    def __init__(self, n, num_classes=8, size=20, noise=1.6, seed=0):
        rng = np.random.default_rng(seed)
        ys, xs = np.mgrid[0:size, 0:size]
        labels = rng.integers(0, num_classes, n)
        images = np.empty((n, 1, size, size), dtype=np.float32)
        for i, label in enumerate(labels):
            theta = math.pi * label / num_classes + rng.normal(0, 0.06)
            freq = rng.uniform(0.12, 0.22)
            phase = rng.uniform(0, 2 * math.pi)
            wave = np.sin(2 * math.pi * freq * (xs * math.cos(theta) + ys * math.sin(theta)) + phase)
            images[i, 0] = 0.5 + wave + rng.normal(0, noise, (size, size))
        self.images = torch.from_numpy(images)
        self.labels = torch.from_numpy(labels).long()
        self.mean, self.std = 0.0, 1.0

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, idx):
        return (self.images[idx] - self.mean) / self.std, self.labels[idx]


class ConvBlock(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x):
        return F.max_pool2d(F.relu(self.bn(self.conv(x))), 2)


class TextureNet(nn.Module):
    def __init__(self, num_classes, width=24):
        super().__init__()
        self.blocks = nn.Sequential(ConvBlock(1, width), ConvBlock(width, 2 * width))
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(2 * width * 5 * 5, num_classes)

    def forward(self, x):
        return self.head(self.dropout(self.blocks(x).flatten(1)))


class ModelEMA:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        self.decay = decay
        self.updates = 0
        for p in self.module.parameters():
            p.requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        d = self.decay * (1 - math.exp(-self.updates / 20))
        source = model.state_dict()
        for name, value in self.module.state_dict().items():
            if value.dtype.is_floating_point:
                value.mul_(d).add_(source[name], alpha=1 - d)
            else:
                value.copy_(source[name])


class Trainer:
    def __init__(self, model, train_loader, val_loader, cfg, out_dir):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device)
        self.ema = ModelEMA(self.model, cfg.ema_decay)
        self.train_loader, self.val_loader = train_loader, val_loader
        self.cfg = cfg
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=cfg.lr, momentum=cfg.momentum,
            weight_decay=cfg.weight_decay, nesterov=True,
        )
        total_steps = cfg.epochs * (len(train_loader) // cfg.accum_steps)

        def lr_lambda(step):
            if step < cfg.warmup_steps:
                return (step + 1) / cfg.warmup_steps
            progress = (step - cfg.warmup_steps) / max(1, total_steps - cfg.warmup_steps)
            return 0.5 * (1 + math.cos(math.pi * progress))

        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lr_lambda)
        self.best_acc = 0.0
        self.ckpt_path = os.path.join(out_dir, "best.pt")

    def autocast(self):
        return torch.autocast(device_type=self.device.type, dtype=torch.bfloat16)

    def train_one_epoch(self):
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        running, seen = 0.0, 0
        for i, (images, targets) in enumerate(self.train_loader):
            images, targets = images.to(self.device), targets.to(self.device)
            with self.autocast():
                logits = self.model(images)
                loss = self.criterion(logits, targets)
            (loss / self.cfg.accum_steps).backward()
            if (i + 1) % self.cfg.accum_steps == 0:
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
                self.scheduler.step()
                self.ema.update(self.model)
            running += loss.item() * targets.size(0)
            seen += targets.size(0)
        return running / seen

    @torch.no_grad()
    def validate(self, model, loader):
        model.eval()
        loss_sum, correct, total = 0.0, 0, 0
        for images, targets in loader:
            images, targets = images.to(self.device), targets.to(self.device)
            with self.autocast():
                logits = model(images)
            loss_sum += F.cross_entropy(logits.float(), targets, reduction="sum").item()
            correct += (logits.argmax(dim=1) == targets).sum().item()
            total += targets.size(0)
        return loss_sum / total, correct / total

    def save_checkpoint(self, epoch):
        torch.save({"epoch": epoch, "model": self.ema.module.state_dict()}, self.ckpt_path)

    def load_best(self):
        state = torch.load(self.ckpt_path, map_location=self.device)
        self.ema.module.load_state_dict(state["model"])
        return self.ema.module

    def fit(self):
        for epoch in range(self.cfg.epochs):
            train_loss = self.train_one_epoch()
            _, acc = self.validate(self.model, self.val_loader)
            ema_loss, ema_acc = self.validate(self.ema.module, self.val_loader)
            print(f"epoch {epoch:2d}  loss {train_loss:.4f}  val_acc {acc:.4f}  "
                  f"ema_loss {ema_loss:.4f}  ema_acc {ema_acc:.4f}")
            if ema_acc > self.best_acc:
                self.best_acc = ema_acc
                self.save_checkpoint(epoch)


def main():
    cfg = Config()
    torch.manual_seed(cfg.seed)
    dataset = GratingDataset(1664, cfg.num_classes, cfg.image_size, seed=cfg.seed)
    train_set, val_set, test_set = random_split(dataset, [1024, 300, 340])
    train_images = dataset.images[train_set.indices]
    dataset.mean, dataset.std = train_images.mean(), train_images.std()

    train_loader = DataLoader(train_set, batch_size=cfg.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=64)
    test_loader = DataLoader(test_set, batch_size=64)

    with tempfile.TemporaryDirectory() as out_dir:
        trainer = Trainer(TextureNet(cfg.num_classes), train_loader, val_loader, cfg, out_dir)
        trainer.fit()
        test_loss, test_acc = trainer.validate(trainer.load_best(), test_loader)
    print(f"best val acc {trainer.best_acc:.4f}  test loss {test_loss:.4f}  test acc {test_acc:.4f}")


if __name__ == "__main__":
    main()
