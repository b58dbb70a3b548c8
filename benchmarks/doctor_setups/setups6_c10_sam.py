"""Colored shapes, trained with sharpness-aware minimization (Foret et al. 2021) around SGD."""

import torch
from torch import nn
from torch.utils.data import DataLoader

from toydata import Shapes

args = {"rho": 0.05, "learning_rate": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 50, "warmup": 20}


def normalize(image):
    return (image - 0.5) / 0.2


class ShapeNet(nn.Module):
    def __init__(self, classes=6, width=16):
        super().__init__()
        layers, channels = [], 3
        for outputs in (width, 2 * width, 2 * width):
            layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
            channels = outputs
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels * 2 * 2, classes)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def set_running_stats(model, enabled):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1 if enabled else 0.0


@torch.no_grad()
def climb(model, rho):
    """To the highest point near by, as the gradient tells; gives what was added."""
    moved = [p for p in model.parameters() if p.grad is not None]
    norm = torch.stack([p.grad.norm() for p in moved]).norm()
    added = [p.grad * (rho / (norm + 1e-12)) for p in moved]
    for parameter, difference in zip(moved, added):
        parameter.add_(difference)
    return list(zip(moved, added))


@torch.no_grad()
def climb_down(moves):
    for parameter, difference in moves:
        parameter.sub_(difference)


def warm_up(optimizer):
    for group in optimizer.param_groups:
        group["seen"] = group.get("seen", 0) + 1
        group["lr"] = args["learning_rate"] * min(1.0, group["seen"] / args["warmup"])


def sam_step(model, batch, optimizer, loss):
    images, labels = batch
    model.train()
    warm_up(optimizer)

    # first pass: the gradient here
    optimizer.zero_grad()
    value = loss(model(images), labels)
    value.backward()
    moves = climb(model, args["rho"])

    # second pass: the gradient there, used here
    optimizer.zero_grad()
    loss(model(images), labels).backward()
    climb_down(moves)
    optimizer.step()
    return value.detach()


def setup():
    torch.manual_seed(9)
    model = ShapeNet()
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=args["learning_rate"],
        momentum=args["momentum"],
        weight_decay=args["weight_decay"],
    )
    return {
        "model": model,
        "train": DataLoader(Shapes(True, transform=normalize), batch_size=args["batch_size"], shuffle=True),
        "val": DataLoader(Shapes(False, transform=normalize), batch_size=80),
        "loss": nn.CrossEntropyLoss(label_smoothing=0.05),
        "optimizer": optimizer,
        "step": sam_step,
    }
