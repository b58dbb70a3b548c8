"""Sharpness-aware minimization around SGD: climb by rho, take the gradient there, go back and step."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader

from toydata import Digits

hparams = {"rho": 0.05, "lr": 0.02, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 64, "width": 24}


def preprocess(image):
    return image.float().div(255).sub(0.2).div(0.33)


class Net(nn.Module):
    def __init__(self, width, classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.GroupNorm(4, width), nn.ReLU())
        self.stage1 = self.stage(width, 2 * width)
        self.stage2 = self.stage(2 * width, 2 * width)
        self.fc = nn.Linear(2 * width * 16, classes)

    @staticmethod
    def stage(cin, cout):
        return nn.Sequential(
            nn.Conv2d(cin, cout, 3, stride=2, padding=1), nn.GroupNorm(4, cout), nn.ReLU(),
        )

    def forward(self, x):
        x = self.stage2(self.stage1(self.stem(x)))
        return self.fc(x.flatten(1))


class SAM:
    """The two halves of a SAM step, for any optimizer."""

    def __init__(self, rho, eps=1e-12):
        self.rho, self.eps = rho, eps

    @torch.no_grad()
    def ascend(self, params):
        norm = torch.stack([p.grad.norm() for p in params]).norm()
        scale = self.rho / (norm + self.eps)
        moved = []
        for p in params:
            shift = p.grad * scale
            p.add_(shift)
            moved.append((p, shift))
        return moved

    @torch.no_grad()
    def descend(self, moved):
        for p, shift in moved:
            p.sub_(shift)


def make_sam_step(rho):
    sam = SAM(rho)

    def sam_step(model, batch, optimizer, criterion):
        inputs, labels = batch
        # gradient here
        optimizer.zero_grad()
        loss = criterion(model(inputs), labels)
        loss.backward()
        params = [p for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        moved = sam.ascend(params)
        # gradient at the top
        optimizer.zero_grad()
        criterion(model(inputs), labels).backward()
        sam.descend(moved)
        optimizer.step()
        return loss.detach()

    return sam_step


def setup():
    torch.manual_seed(9)
    train = DataLoader(Digits(True, transform=preprocess), batch_size=hparams["batch_size"], shuffle=True)
    val = DataLoader(Digits(False, transform=preprocess), batch_size=100)
    model = Net(hparams["width"])
    optimizer = torch.optim.SGD(
        model.parameters(), lr=hparams["lr"], momentum=hparams["momentum"], weight_decay=hparams["weight_decay"]
    )
    return {
        "model": model,
        "train": train,
        "val": val,
        "loss": nn.CrossEntropyLoss(),
        "optimizer": optimizer,
        "step": make_sam_step(hparams["rho"]),
    }
