"""Digits with sharpness-aware minimization (SAM), the two passes in the step."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader

from toydata import Digits

CONFIG = {
    "batch_size": 64,
    "lr": 0.05,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "sam": {"rho": 0.05, "adaptive": False},
}


def to_tensor(image):
    return (image.float() / 255 - 0.15) / 0.27


class SmallNet(nn.Module):
    def __init__(self, width=16, num_classes=10):
        super().__init__()
        self.stages = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.GroupNorm(4, width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.GroupNorm(4, 2 * width), nn.ReLU(), nn.MaxPool2d(2),
        )
        self.fc = nn.Linear(2 * width * 4 * 4, num_classes)

    def forward(self, x):
        return self.fc(self.stages(x).flatten(1))


class SAMStep:
    """Goes up to the worst weights within rho, takes the gradient there, and steps from where it was."""

    def __init__(self, rho, adaptive):
        self.rho, self.adaptive = rho, adaptive

    def scale(self, p):
        return p.abs() if self.adaptive else 1.0

    @torch.no_grad()
    def ascend(self, params):
        norm = torch.stack([(self.scale(p) * p.grad).norm() for p in params]).norm()
        moves = []
        for p in params:
            move = self.scale(p) * self.scale(p) * p.grad * (self.rho / (norm + 1e-12))
            p.add_(move)
            moves.append(move)
        return moves

    @torch.no_grad()
    def descend(self, params, moves):
        for p, move in zip(params, moves):
            p.sub_(move)

    def __call__(self, model, batch, optimizer, criterion):
        images, targets = batch
        optimizer.zero_grad()
        loss = criterion(model(images), targets)
        loss.backward()
        params = [p for p in model.parameters() if p.grad is not None]
        moves = self.ascend(params)
        optimizer.zero_grad()
        criterion(model(images), targets).backward()
        self.descend(params, moves)
        optimizer.step()
        return loss.detach()


def setup():
    torch.manual_seed(0)
    model = SmallNet()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=CONFIG["lr"], momentum=CONFIG["momentum"], weight_decay=CONFIG["weight_decay"]
    )
    return {
        "model": model,
        "train": DataLoader(Digits(train=True, transform=to_tensor), batch_size=CONFIG["batch_size"], shuffle=True),
        "val": DataLoader(Digits(train=False, transform=to_tensor), batch_size=100),
        "loss": nn.CrossEntropyLoss(label_smoothing=0.05),
        "optimizer": optimizer,
        "step": SAMStep(**CONFIG["sam"]),
    }
