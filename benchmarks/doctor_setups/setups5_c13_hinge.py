"""A network with a linear SVM on top: labels of -1 and 1, squared hinge loss (after Tang, 2013)."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader

from toydata import Digits

options = {
    "batch_size": 50,
    "lr": 1e-3,
    "decay": {"features": 0.0, "svm": 1e-3},
    "margin": 1.0,
}


def to_float(image):
    return (image.float() / 255 - 0.2) / 0.33


def even_or_odd(digit):
    return 1.0 if digit % 2 == 0 else -1.0


class SVMNet(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 16, hidden), nn.ReLU(),
        )
        self.svm = nn.Linear(hidden, 1)

    def forward(self, x):
        return self.svm(self.features(x)).squeeze(1)


class SquaredHinge(nn.Module):
    def __init__(self, margin=1.0):
        super().__init__()
        self.margin = margin

    def forward(self, scores, labels):
        labels = labels.to(scores.dtype)
        return (self.margin - labels * scores).clamp(min=0).pow(2).mean()


def parameter_groups(model, decay):
    """The weights of the margin have a decay of their own; biases have none."""
    return [
        {"params": list(model.features.parameters()), "weight_decay": decay["features"]},
        {"params": [model.svm.weight], "weight_decay": decay["svm"]},
        {"params": [model.svm.bias], "weight_decay": 0.0},
    ]


def build_loader(train):
    data = Digits(train, transform=to_float, target_transform=even_or_odd)
    return DataLoader(data, batch_size=options["batch_size"], shuffle=train)


def setup():
    torch.manual_seed(12)
    model = SVMNet()
    optimizer = torch.optim.AdamW(parameter_groups(model, options["decay"]), lr=options["lr"])
    return {
        "model": model,
        "train": build_loader(True),
        "val": build_loader(False),
        "loss": SquaredHinge(options["margin"]),
        "optimizer": optimizer,
    }
