"""Colored shapes: a small residual network, a Trainer class with autocast, accumulation and EMA weights."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from toydata import NAMES, Shapes
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset


@dataclass
class TrainConfig:
    epochs: int = 12
    batch_size: int = 16
    accumulation_steps: int = 2
    lr: float = 0.02
    weight_decay: float = 5e-4
    momentum: float = 0.9
    max_grad_norm: float = 1.0
    ema_decay: float = 0.97
    amp_dtype: torch.dtype = torch.bfloat16
    loss_scaling: bool = False
    seed: int = 1


class ShapeDataset(Dataset):
    def __init__(self, train):
        shapes = Shapes(train=train)
        self.train = train
        self.images = torch.stack(shapes.images)
        self.class_to_idx = {name: i for i, name in enumerate(NAMES)}
        self.labels = [self.class_to_idx[name] for name in shapes.names]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = (self.images[i] - 0.5) / 0.25
        if self.train and torch.rand(()) < 0.5:
            image = image.flip(-1)
        return image, self.labels[i]


class Block(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(c_out)
        self.skip = nn.Conv2d(c_in, c_out, 1, stride, bias=False)

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.skip(x))


def build_model():
    return nn.Sequential(
        Block(3, 16, 1), Block(16, 24, 2), Block(24, 32, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 6)
    )


class Trainer:
    def __init__(self, cfg, model, train_loader, val_loader):
        self.cfg = cfg
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device)
        self.ema = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(cfg.ema_decay), use_buffers=True)
        self.train_loader, self.val_loader = train_loader, val_loader
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=cfg.lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay, nesterov=True
        )
        self.steps_per_epoch = len(train_loader) // cfg.accumulation_steps
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.optimizer, T_max=cfg.epochs * self.steps_per_epoch
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=cfg.loss_scaling)

    def train_epoch(self):
        self.model.train()
        total, seen = 0.0, 0
        self.optimizer.zero_grad(set_to_none=True)
        for i, (images, labels) in enumerate(self.train_loader):
            images, labels = images.to(self.device), labels.to(self.device)
            with torch.autocast(self.device.type, dtype=self.cfg.amp_dtype):
                logits = self.model(images)
                loss = F.cross_entropy(logits, labels)
            self.scaler.scale(loss / self.cfg.accumulation_steps).backward()
            total += loss.item() * len(labels)
            seen += len(labels)
            if (i + 1) % self.cfg.accumulation_steps == 0:
                self.scaler.unscale_(self.optimizer)
                nn.utils.clip_grad_norm_(self.model.parameters(), self.cfg.max_grad_norm)
                self.scaler.step(self.optimizer)
                self.scaler.update()
                self.optimizer.zero_grad(set_to_none=True)
                self.scheduler.step()
                self.ema.update_parameters(self.model)
        return total / seen

    @torch.no_grad()
    def evaluate(self, model):
        model.eval()
        correct = count = 0
        for images, labels in self.val_loader:
            images, labels = images.to(self.device), labels.to(self.device)
            with torch.autocast(self.device.type, dtype=self.cfg.amp_dtype):
                logits = model(images)
            correct += (logits.argmax(dim=-1) == labels).sum().item()
            count += labels.numel()
        return correct / count

    def fit(self):
        for epoch in range(self.cfg.epochs):
            loss = self.train_epoch()
            accuracy = self.evaluate(self.ema)
            print(f"epoch {epoch:2d} | loss {loss:.4f} | val acc (ema) {accuracy:.4f}")


def main():
    cfg = TrainConfig()
    torch.manual_seed(cfg.seed)
    train_loader = DataLoader(ShapeDataset(train=True), cfg.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(ShapeDataset(train=False), 64)
    model = build_model()
    Trainer(cfg, model, train_loader, val_loader).fit()


if __name__ == "__main__":
    main()
