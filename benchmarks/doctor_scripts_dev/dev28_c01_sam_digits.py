"""Sharpness-aware minimization of a small group-norm network for digits."""
import argparse
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from toydata import Digits


class SharpnessAware:
    """Climbs by rho along the gradient, takes the gradient there, goes back and steps with the inner optimizer."""

    def __init__(self, inner, rho=0.05):
        self.inner, self.rho = inner, rho
        self.backup = {}

    def parameters(self):
        return [p for group in self.inner.param_groups for p in group["params"] if p.grad is not None]

    @torch.no_grad()
    def climb(self):
        params = self.parameters()
        norm = torch.norm(torch.stack([p.grad.norm() for p in params]))
        scale = self.rho / (norm + 1e-12)
        for p in params:
            self.backup[p] = p.detach().clone()
            p.add_(p.grad * scale)
        self.inner.zero_grad()

    @torch.no_grad()
    def descend(self):
        for p, saved in self.backup.items():
            p.copy_(saved)
        self.backup.clear()
        self.inner.step()
        self.inner.zero_grad()


def build(width):
    def block(a, b, stride):
        return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.GroupNorm(4, b), nn.SiLU())

    return nn.Sequential(
        block(1, width, 1), block(width, 2 * width, 2), block(2 * width, 64, 2), nn.Flatten(), nn.Linear(64 * 16, 10)
    )


def prepare(image):
    return (image.float() / 255 - 0.2) / 0.35


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    right = total = 0
    for images, labels in loader:
        right += (model(images).argmax(1) == labels).sum().item()
        total += len(labels)
    return right / total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=35)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.08)
    parser.add_argument("--rho", type=float, default=0.05)
    args = parser.parse_args()
    torch.manual_seed(3)
    torch.set_num_threads(1)

    train = DataLoader(Digits(train=True, transform=prepare), args.batch_size, shuffle=True, drop_last=True)
    valid = DataLoader(Digits(train=False, transform=prepare), 100)
    model = build(24)
    sgd = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
    sam = SharpnessAware(sgd, rho=args.rho)
    total = args.epochs * len(train)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        sgd, lambda step: min(1, (step + 1) / 30) * 0.5 * (1 + math.cos(math.pi * step / total))
    )

    for epoch in range(args.epochs):
        model.train()
        loss_sum = 0.0
        for images, labels in train:
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            sam.climb()
            F.cross_entropy(model(images), labels).backward()
            sam.descend()
            schedule.step()
            loss_sum += loss.item() * len(labels)
        mean = loss_sum / (len(train) * args.batch_size)
        print(f"epoch {epoch:2d} loss {mean:.4f} accuracy {accuracy(model, valid):.3f}")


if __name__ == "__main__":
    main()
