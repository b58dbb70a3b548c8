"""Mean teacher on waves: few labels, many signals without one (Tarvainen and Valpola, 2017)."""

import argparse
import copy
import itertools
import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves


def build_model(num_classes=4):
    return nn.Sequential(
        nn.Conv1d(1, 24, 9, padding=4),
        nn.GroupNorm(4, 24),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(24, 32, 7, padding=3),
        nn.GroupNorm(4, 32),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(4),
        nn.Flatten(),
        nn.Linear(128, num_classes),
    )


class WeightAverage:
    """Exponential moving average; the decay grows from 0, so that the random weights are soon forgotten."""

    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        self.module.requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = min(self.decay, 1.0 - 1.0 / self.updates)
        for slow, fast in zip(self.module.parameters(), model.parameters()):
            slow.mul_(decay).add_(fast, alpha=1.0 - decay)


def perturb(signals):
    """Noise, a gain for each signal, and a small shift in time: none of them changes the kind of wave."""
    gain = 1.0 + 0.1 * torch.randn(len(signals), 1, 1)
    shift = int(torch.randint(-4, 5, (1,)))
    return torch.roll(signals, shift, dims=-1) * gain + 0.1 * torch.randn_like(signals)


def sigmoid_rampup(current, length):
    if current >= length:
        return 1.0
    phase = 1.0 - current / length
    return math.exp(-5.0 * phase * phase)


@torch.no_grad()
def validate(model, loader):
    model.eval()
    correct = total = 0
    loss = 0.0
    for signals, labels in loader:
        logits = model(signals)
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        correct += (logits.argmax(1) == labels).sum().item()
        total += len(labels)
    return loss / total, correct / total


def get_loaders(args):
    signals, labels = waves(args.labeled + args.unlabeled, seed=args.seed)
    val_signals, val_labels = waves(300, seed=args.seed + 1)
    labeled = TensorDataset(signals[: args.labeled], labels[: args.labeled])
    unlabeled = TensorDataset(signals[args.labeled :])
    return (
        DataLoader(labeled, batch_size=args.batch_size, shuffle=True, drop_last=True),
        DataLoader(unlabeled, batch_size=2 * args.batch_size, shuffle=True, drop_last=True),
        DataLoader(TensorDataset(val_signals, val_labels), batch_size=150),
    )


def forever(loader):
    while True:
        yield from loader


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--labeled", type=int, default=320)
    parser.add_argument("--unlabeled", type=int, default=960)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rampup", type=int, default=150)
    parser.add_argument("--consistency", type=float, default=2.0)
    parser.add_argument("--ema_decay", type=float, default=0.97)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=20)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    labeled_loader, unlabeled_loader, val_loader = get_loaders(args)
    student = build_model()
    teacher = WeightAverage(student, args.ema_decay)
    optimizer = torch.optim.AdamW(student.parameters(), lr=args.lr, weight_decay=1e-3)
    pairs = zip(forever(labeled_loader), forever(unlabeled_loader))

    for step, ((x, y), (u,)) in enumerate(itertools.islice(pairs, args.steps)):
        student.train()
        supervised = F.cross_entropy(student(perturb(x)), y)
        with torch.no_grad():
            soft_targets = teacher.module(u).softmax(dim=1)
        consistency = F.mse_loss(student(perturb(u)).softmax(dim=1), soft_targets)
        loss = supervised + args.consistency * sigmoid_rampup(step, args.rampup) * consistency
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        teacher.update(student)
        if (step + 1) % 50 == 0:
            val_loss, val_acc = validate(student, val_loader)
            print(
                f"step {step + 1}: supervised {supervised.item():.3f}  consistency {consistency.item():.4f}  "
                f"val loss {val_loss:.3f}  val acc {val_acc:.3f}"
            )


if __name__ == "__main__":
    main()
