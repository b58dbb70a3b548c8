"""Rare digits drawn more often, bfloat16 autocast, gradients of several small batches, clipping, inverse square root decay."""
import argparse
from contextlib import nullcontext

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Subset, WeightedRandomSampler

from toydata import Digits


def get_args():
    p = argparse.ArgumentParser()
    p.add_argument("--micro-batch", type=int, default=48)
    p.add_argument("--accumulate", type=int, default=2)
    p.add_argument("--epochs", type=int, default=12)
    p.add_argument("--lr", type=float, default=4e-3)
    p.add_argument("--warmup", type=int, default=12)
    p.add_argument("--max-norm", type=float, default=2.0)
    p.add_argument("--no-amp", dest="amp", action="store_false")
    return p.parse_args()


def imbalanced_indices(targets, seed=5):
    """Odd digits are three times as rare as even ones."""
    g = torch.Generator().manual_seed(seed)
    keep = torch.where(targets % 2 == 1, 1 / 3, 1.0)
    return torch.nonzero(torch.rand(len(targets), generator=g) < keep).flatten().tolist()


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(8, channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x):
        return x + self.body(x)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), Residual(32), nn.Conv2d(32, 64, 3, stride=2, padding=1), Residual(64),
            nn.Conv2d(64, 64, 3, stride=2, padding=1), nn.GroupNorm(8, 64), nn.ReLU())
        self.head = nn.Linear(64 * 16, 10)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


class Trainer:
    def __init__(self, args, model, train_loader, valid_loader):
        self.args, self.model = args, model
        self.train_loader, self.valid_loader = train_loader, valid_loader
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.02)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda s: min((s + 1) / args.warmup, (args.warmup / (s + 1)) ** 0.5))
        self.criterion = nn.CrossEntropyLoss()

    def autocast(self):
        return torch.autocast("cpu", dtype=torch.bfloat16) if self.args.amp else nullcontext()

    def train_epoch(self):
        self.model.train()
        batches, total, k = list(self.train_loader), 0.0, self.args.accumulate
        for start in range(0, len(batches), k):
            group = batches[start:start + k]  # the last may be shorter
            self.optimizer.zero_grad(set_to_none=True)
            samples = sum(len(y) for _, y in group)
            for x, y in group:
                with self.autocast():
                    logits = self.model(x)
                loss = self.criterion(logits.float(), y) * len(y) / samples
                loss.backward()
                total += loss.detach() * samples
            nn.utils.clip_grad_norm_(self.model.parameters(), self.args.max_norm)
            self.optimizer.step()
            self.scheduler.step()
        return float(total) / sum(len(y) for _, y in batches)

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        hits, seen = torch.zeros(10), torch.zeros(10)
        for x, y in self.valid_loader:
            with self.autocast():
                predicted = self.model(x).argmax(1)
            hits += torch.bincount(y[predicted == y], minlength=10)
            seen += torch.bincount(y, minlength=10)
        return (hits.sum() / seen.sum()).item(), (hits / seen).mean().item()


def main():
    args = get_args()
    torch.manual_seed(0)
    raw = Digits(train=True, count=2000)
    mean, std = (raw.data.float() / 255).mean(), (raw.data.float() / 255).std()
    transform = lambda image: (image.float() / 255 - mean) / std
    train_full = Digits(train=True, count=2000, transform=transform)
    keep = imbalanced_indices(train_full.targets)
    train_set, valid_set = Subset(train_full, keep), Digits(train=False, transform=transform)

    counts = torch.bincount(train_full.targets[keep], minlength=10)
    print("classes:", counts.tolist())
    weights = 1.0 / counts[train_full.targets[keep]].double()
    sampler = WeightedRandomSampler(weights, num_samples=len(keep), replacement=True)
    train_loader = DataLoader(train_set, batch_size=args.micro_batch, sampler=sampler)
    valid_loader = DataLoader(valid_set, batch_size=150)

    trainer = Trainer(args, Classifier(), train_loader, valid_loader)
    for epoch in range(args.epochs):
        loss = trainer.train_epoch()
        accuracy, balanced = trainer.evaluate()
        print(f"epoch {epoch}: loss {loss:.4f} accuracy {accuracy:.4f} balanced {balanced:.4f}")


if __name__ == "__main__":
    main()
