"""Ten digits with a small residual network: mixup, label smoothing, EMA of the weights, warmup and cosine."""

import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


@dataclass
class Config:
    train_count: int = 2400
    valid_count: int = 500
    batch_size: int = 64
    epochs: int = 24
    lr: float = 3e-3
    weight_decay: float = 0.02
    warmup_steps: int = 60
    mixup_alpha: float = 0.2
    label_smoothing: float = 0.05
    ema_decay: float = 0.98
    seed: int = 7


class ResidualBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(x + self.bn2(self.conv2(y)))


class SmallResNet(nn.Module):
    def __init__(self, classes=10, width=32):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.block = ResidualBlock(width)
        self.widen = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU()
        )
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x):
        x = self.widen(self.block(self.stem(x)))
        return self.head(x.mean((2, 3)))


class Trainer:
    def __init__(self, config):
        self.config = config
        torch.manual_seed(config.seed)
        self.make_loaders()
        self.model = SmallResNet()
        self.ema = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True)
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        vectors = [p for p in self.model.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=config.lr,
        )
        total = config.epochs * len(self.train_loader)

        def factor(step):
            if step < config.warmup_steps:
                return (step + 1) / config.warmup_steps
            progress = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
            return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)
        self.beta = torch.distributions.Beta(config.mixup_alpha, config.mixup_alpha)

    def make_loaders(self):
        config = self.config
        images, labels = draw_digits(config.train_count, seed=0)
        valid_images, valid_labels = draw_digits(config.valid_count, seed=1)
        images, valid_images = images.float() / 255, valid_images.float() / 255
        mean, std = images.mean(), images.std()
        self.train_loader = DataLoader(
            TensorDataset((images - mean) / std, labels), batch_size=config.batch_size, shuffle=True, drop_last=True
        )
        self.valid_loader = DataLoader(TensorDataset((valid_images - mean) / std, valid_labels), batch_size=250)

    def loss_of(self, images, labels, epoch):
        lam = float(self.beta.sample())
        other = torch.randperm(len(images))
        logits = self.model(lam * images + (1 - lam) * images[other])
        smoothing = self.config.label_smoothing
        loss = lam * F.cross_entropy(logits, labels, label_smoothing=smoothing)
        return loss + (1 - lam) * F.cross_entropy(logits, labels[other], label_smoothing=smoothing)

    def train_epoch(self, epoch):
        self.model.train()
        total, seen = 0.0, 0
        for images, labels in self.train_loader:
            loss = self.loss_of(images, labels, epoch)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            self.ema.update_parameters(self.model)
            total += loss.item() * len(images)
            seen += len(images)
        return total / seen

    @torch.no_grad()
    def evaluate(self, model):
        model.eval()
        right, count = 0, 0
        for images, labels in self.valid_loader:
            right += (model(images).argmax(1) == labels).sum().item()
            count += len(labels)
        return right / count

    def fit(self):
        for epoch in range(self.config.epochs):
            loss = self.train_epoch(epoch)
            plain, averaged = self.evaluate(self.model), self.evaluate(self.ema)
            print(f"epoch {epoch + 1:2d}  mixup loss {loss:.3f}  accuracy {plain:.3f}  of the average {averaged:.3f}")
        return averaged


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("final accuracy", Trainer(Config()).fit())
