"""Sharpness-aware minimization: two passes a step, around plain SGD."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader

from toydata import Shapes

hparams = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "rho": 0.05, "batch_size": 50}


def conv_block(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class SmallNet(nn.Module):
    def __init__(self, classes=6):
        super().__init__()
        self.features = nn.Sequential(
            conv_block(3, 16), conv_block(16, 16), nn.MaxPool2d(2),
            conv_block(16, 32), nn.MaxPool2d(2), conv_block(32, 48),
        )
        self.fc = nn.Linear(48 * 4 * 4, classes)

    def forward(self, x):
        return self.fc(self.features(x).flatten(1))


@torch.no_grad()
def climb(model, rho):
    """Moves the weights to the worst place nearby, and gives what was added to each."""
    params = [p for p in model.parameters() if p.grad is not None]
    norm = torch.stack([p.grad.norm() for p in params]).norm()
    moved = []
    for p in params:
        e = p.grad * (rho / (norm + 1e-12))
        p.add_(e)
        moved.append((p, e))
    return moved


def sam_step(model, batch, optimizer, criterion):
    images, labels = batch
    optimizer.zero_grad()
    loss = criterion(model(images), labels)
    loss.backward()
    moved = climb(model, hparams["rho"])

    optimizer.zero_grad()
    criterion(model(images), labels).backward()
    with torch.no_grad():
        for p, e in moved:
            p.sub_(e)
    optimizer.step()
    return loss.detach()


def normalize(image):
    return (image - 0.5) / 0.2


def setup():
    torch.manual_seed(0)
    model = SmallNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=hparams["lr"], momentum=hparams["momentum"],
                                weight_decay=hparams["weight_decay"])
    return {
        "model": model,
        "train": DataLoader(Shapes(True, transform=normalize), batch_size=hparams["batch_size"], shuffle=True),
        "val": DataLoader(Shapes(False, transform=normalize), batch_size=80),
        "loss": nn.CrossEntropyLoss(label_smoothing=0.05),
        "optimizer": optimizer,
        "step": sam_step,
    }
