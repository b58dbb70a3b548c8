"""Digit classifier with an input gradient penalty (double backpropagation, Drucker & LeCun)."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import Digits

config = {
    "data": {"train": 1200, "val": 300, "batch_size": 48},
    "model": {"channels": (12, 24), "hidden": 64, "classes": 10},
    "optim": {"lr": 2e-3, "betas": (0.9, 0.99)},
    "penalty": {"weight": 0.01, "interval": 4},  # interval: of the lazy variant
}


class SmoothCNN(nn.Module):
    def __init__(self, channels, hidden, classes):
        super().__init__()
        first, second = channels
        self.features = nn.Sequential(
            nn.Conv2d(1, first, 3, padding=1), nn.SiLU(), nn.AvgPool2d(2),
            nn.Conv2d(first, second, 3, padding=1), nn.SiLU(), nn.AvgPool2d(2),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(second * 16, hidden), nn.SiLU(), nn.Linear(hidden, classes))

    def forward(self, x):
        return self.classifier(self.features(x))


class PenalizedStep:
    def __init__(self, weight, interval):
        self.weight, self.interval = weight, interval
        self.iteration = 0

    def input_gradient(self, value, x):
        """Squared norm of the gradient of each sample's own loss."""
        (gradient,) = torch.autograd.grad(value * len(x), x, create_graph=True)
        return gradient.flatten(1).pow(2).sum(1).mean()

    def __call__(self, model, batch, optimizer, loss):
        x, y = batch
        x = x.detach().clone().requires_grad_(True)
        optimizer.zero_grad(set_to_none=True)
        value = loss(model(x), y)
        total = value + self.weight * self.input_gradient(value, x)
        total.backward()
        optimizer.step()
        self.iteration += 1
        return value.detach()


def tensors(train, count):
    digits = Digits(train=train, count=count)
    return digits.data.float() / 255, digits.targets


def build_data(train, val, batch_size):
    (x_train, y_train), (x_val, y_val) = tensors(True, train), tensors(False, val)
    mean, std = x_train.mean(), x_train.std()
    train_set = TensorDataset((x_train - mean) / std, y_train)
    val_set = TensorDataset((x_val - mean) / std, y_val)
    return DataLoader(train_set, batch_size=batch_size, shuffle=True), DataLoader(val_set, batch_size=100)


def setup():
    torch.manual_seed(4)
    train, val = build_data(**config["data"])
    model = SmoothCNN(**config["model"])
    return {
        "model": model,
        "train": train,
        "val": val,
        "loss": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.Adam(model.parameters(), **config["optim"]),
        "step": PenalizedStep(**config["penalty"]),
    }
