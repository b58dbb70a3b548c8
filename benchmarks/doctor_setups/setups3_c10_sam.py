"""Sharpness-aware minimization (Foret et al. 2021): the gradient is taken where the loss nearby is highest."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

CFG = {"rho": 0.05, "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 48, "label_smoothing": 0.05}


class ConvBN(nn.Sequential):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


def build_model(width=16, classes=10):
    return nn.Sequential(
        ConvBN(1, width),
        ConvBN(width, 2 * width, stride=2),
        ConvBN(2 * width, 2 * width, stride=2),
        nn.Flatten(),
        nn.Linear(2 * width * 16, classes),
    )


class SAMStep:
    def __init__(self, rho):
        self.rho = rho

    @torch.no_grad()
    def ascend(self, model):
        """Go to w + rho * g / |g|; gives what was added to each parameter."""
        params = [p for p in model.parameters() if p.grad is not None]
        norm = torch.norm(torch.stack([p.grad.norm() for p in params]))
        moves = []
        for p in params:
            move = p.grad * (self.rho / (norm + 1e-12))
            p.add_(move)
            moves.append((p, move))
        return moves

    @torch.no_grad()
    def descend(self, moves):
        for p, move in moves:
            p.sub_(move)

    def __call__(self, model, batch, optimizer, loss):
        images, labels = batch
        optimizer.zero_grad()
        value = loss(model(images), labels)
        value.backward()
        moves = self.ascend(model)
        optimizer.zero_grad()
        loss(model(images), labels).backward()
        self.descend(moves)
        optimizer.step()
        return value.detach()


def build_data(batch_size):
    (x_train, y_train), (x_val, y_val) = draw_digits(1400, seed=20), draw_digits(300, seed=21)
    x_train, x_val = x_train.float() / 255, x_val.float() / 255
    mean, std = x_train.mean(), x_train.std()
    train_set = TensorDataset((x_train - mean) / std, y_train)
    val_set = TensorDataset((x_val - mean) / std, y_val)
    return DataLoader(train_set, batch_size=batch_size, shuffle=True, drop_last=True), DataLoader(val_set, batch_size=100)


def build_optimizer(params):
    return torch.optim.SGD(params, lr=CFG["lr"], momentum=CFG["momentum"], weight_decay=CFG["weight_decay"])


def setup():
    torch.manual_seed(9)
    train, val = build_data(CFG["batch_size"])
    return {
        "model": build_model(),
        "train": train,
        "val": val,
        "loss": nn.CrossEntropyLoss(label_smoothing=CFG["label_smoothing"]),
        "optimizer": build_optimizer,
        "step": SAMStep(CFG["rho"]),
    }
