"""Digits by ascent on the log-likelihood, with an optimizer of our own that follows the signs of averaged gradients."""

import argparse
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from toydata import Digits


class SignMomentum(Optimizer):
    """Moves every weight by lr in the direction of the sign of an interpolated momentum; decay is decoupled.

    With maximize the gradients are those of a quantity that is to grow, so steps go along them.
    """

    def __init__(self, params, lr=3e-4, betas=(0.9, 0.99), weight_decay=0.0, maximize=False):
        if lr <= 0:
            raise ValueError(f"lr must be positive, not {lr}")
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay, maximize=maximize))

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            direction = 1.0 if group["maximize"] else -1.0
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["exp_avg"] = torch.zeros_like(p)
                exp_avg = state["exp_avg"]
                p.mul_(1 - group["lr"] * group["weight_decay"])
                update = exp_avg.mul(beta1).add_(p.grad, alpha=1 - beta1).sign_()
                p.add_(update, alpha=direction * group["lr"])
                exp_avg.mul_(beta2).add_(p.grad, alpha=1 - beta2)
        return loss


class SeparableNet(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.depthwise = nn.ModuleList([nn.Conv2d(width, width, 5, padding=2, groups=width) for _ in range(2)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(width) for _ in range(2)])
        self.pointwise = nn.ModuleList([nn.Conv2d(width, width, 1) for _ in range(2)])
        self.out = nn.Linear(width * 16, 10)

    def forward(self, x):
        x = F.gelu(self.stem(x))
        for depthwise, norm, pointwise in zip(self.depthwise, self.norms, self.pointwise):
            x = x + F.gelu(pointwise(norm(depthwise(x))))
        return F.log_softmax(self.out(F.avg_pool2d(x, 2).flatten(1)), dim=-1)


def log_likelihood(log_probs, labels):
    return log_probs.gather(1, labels[:, None]).squeeze(1)


def evaluate(model, loader):
    model.eval()
    likelihood, correct = 0.0, 0
    with torch.no_grad():
        for images, labels in loader:
            log_probs = model(images)
            likelihood += log_likelihood(log_probs, labels).sum().item()
            correct += (log_probs.argmax(-1) == labels).sum().item()
    return likelihood / len(loader.dataset), correct / len(loader.dataset)


def cosine(step, total, warmup):
    if step < warmup:
        return (step + 1) / warmup
    return 0.05 + 0.95 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))) / 2


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=17)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    pixels = Digits(train=True, count=1600).data.float()
    mean, std = pixels.mean(), pixels.std()
    transform = lambda image: (image.float() - mean) / std
    train_loader = DataLoader(Digits(True, 1600, transform=transform), args.batch_size, shuffle=True)
    test_loader = DataLoader(Digits(False, transform=transform), 150)

    model = SeparableNet()
    optimizer = SignMomentum(model.parameters(), lr=args.lr, weight_decay=args.weight_decay, maximize=True)
    total = args.epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(step, total, warmup=20))

    for epoch in range(args.epochs):
        model.train()
        summed = 0.0
        for images, labels in train_loader:
            optimizer.zero_grad(set_to_none=True)
            objective = log_likelihood(model(images), labels).mean()
            objective.backward()
            optimizer.step()
            scheduler.step()
            summed += objective.item() * len(labels)
        likelihood, accuracy = evaluate(model, test_loader)
        print(
            f"epoch {epoch}: log-likelihood {summed / len(train_loader.dataset):.4f}, "
            f"of the test set {likelihood:.4f}, accuracy {accuracy:.4f}, rate {scheduler.get_last_lr()[0]:.1e}"
        )


if __name__ == "__main__":
    main()
