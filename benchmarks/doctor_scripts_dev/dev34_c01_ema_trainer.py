"""Digits with a Trainer class: warmup + cosine, label smoothing, clipping, EMA of the weights."""
import copy
import math
import os
import sys

import torch
import torch.nn as nn
from torch.utils.data import DataLoader

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from toydata import Digits

MEAN, STD = 0.24, 0.33


def to_float(image):
    return (image.float() / 255 - MEAN) / STD


def train_transform(image):
    dy, dx = torch.randint(-1, 2, (2,)).tolist()
    return to_float(image.roll((dy, dx), dims=(1, 2)))


class ConvNet(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.features = nn.Sequential(
            self.block(1, 16), nn.MaxPool2d(2),
            self.block(16, 32), nn.MaxPool2d(2),
            self.block(32, 64),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(64 * 4 * 4, classes))

    @staticmethod
    def block(inputs, outputs):
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
        )

    def forward(self, x):
        return self.head(self.features(x))


class ModelEma:
    """Keeps a moving average of the weights; buffers are copied as they are."""

    def __init__(self, model, decay=0.99):
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for average, current in zip(self.module.parameters(), model.parameters()):
            average.lerp_(current.detach(), 1 - self.decay)
        for average, current in zip(self.module.buffers(), model.buffers()):
            average.copy_(current)


class Trainer:
    def __init__(self, model, train_loader, val_loader, epochs=18, lr=3e-3, warmup_epochs=1):
        self.model, self.train_loader, self.val_loader, self.epochs = model, train_loader, val_loader, epochs
        self.ema = ModelEma(model)
        self.criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
        warmup = warmup_epochs * len(train_loader)
        total = epochs * len(train_loader)

        def factor(step):
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))

        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)

    def train_epoch(self):
        self.model.train()
        total, count = 0.0, 0
        for images, labels in self.train_loader:
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(images), labels)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
            self.optimizer.step()
            self.scheduler.step()
            self.ema.update(self.model)
            total += loss.item() * len(labels)
            count += len(labels)
        return total / count

    @torch.no_grad()
    def validate(self, model):
        model.eval()
        correct, count = 0, 0
        for images, labels in self.val_loader:
            correct += (model(images).argmax(1) == labels).sum().item()
            count += len(labels)
        return correct / count

    def fit(self):
        for epoch in range(1, self.epochs + 1):
            loss = self.train_epoch()
            accuracy, ema_accuracy = self.validate(self.model), self.validate(self.ema.module)
            print(f"epoch {epoch:2d} loss {loss:.4f} val acc {accuracy:.3f} ema val acc {ema_accuracy:.3f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train_set = Digits(train=True, count=3000, noise=0.25, transform=train_transform)
    val_set = Digits(train=False, count=500, noise=0.25, transform=to_float)
    trainer = Trainer(
        ConvNet(),
        DataLoader(train_set, batch_size=64, shuffle=True, drop_last=True),
        DataLoader(val_set, batch_size=100),
    )
    trainer.fit()
