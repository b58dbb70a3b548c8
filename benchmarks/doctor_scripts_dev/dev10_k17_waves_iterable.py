"""Signals of four kinds from an endless stream (IterableDataset): a dilated 1-D network, accumulation over two batches,
clipping, validation on a fixed set."""

import argparse
from itertools import islice

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from toydata import waves

VALIDATION_SEED = 1


class WaveStream(IterableDataset):
    """Synthesizes signals in chunks; every chunk has a seed of its own, none of them that of validation."""

    def __init__(self, chunk=256, first_seed=1000):
        self.chunk, self.seed = chunk, first_seed

    def __iter__(self):
        while True:
            signals, labels = waves(count=self.chunk, seed=self.seed)
            self.seed += 1
            yield from zip(signals, labels)


class WaveNet(nn.Module):
    def __init__(self, kinds=4, width=32):
        super().__init__()
        self.enter = nn.Conv1d(1, width, 5, padding=2)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation),
                nn.GroupNorm(4, width),
                nn.ReLU(),
                nn.Conv1d(width, width, 1),
            )
            for dilation in (1, 2, 4, 8)
        )
        self.leave = nn.Linear(width, kinds)

    def forward(self, signals):
        x = F.relu(self.enter(signals))
        for layer in self.layers:
            x = F.relu(x + layer(x))
        return self.leave(x.mean(dim=-1))


@torch.no_grad()
def validate(model, loader):
    model.eval()
    confusion = torch.zeros(4, 4, dtype=torch.long)
    for signals, labels in loader:
        predicted = model(signals).argmax(dim=1)
        confusion += torch.bincount(4 * labels + predicted, minlength=16).view(4, 4)
    model.train()
    return confusion.diag().sum().item() / confusion.sum().item(), confusion


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--updates", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--accumulate", type=int, default=2)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--clip", type=float, default=2.0)
    parser.add_argument("--every", type=int, default=40)
    args = parser.parse_args()

    torch.manual_seed(12)
    stream = iter(DataLoader(WaveStream(), batch_size=args.batch_size))
    val_loader = DataLoader(TensorDataset(*waves(count=400, seed=VALIDATION_SEED)), batch_size=200)
    model = WaveNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.updates, eta_min=args.lr / 50)

    model.train()
    recent = torch.zeros(())
    for update in range(1, args.updates + 1):
        optimizer.zero_grad()
        for signals, labels in islice(stream, args.accumulate):
            loss = F.cross_entropy(model(signals), labels) / args.accumulate
            loss.backward()
            recent += loss.detach()
        nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        scheduler.step()
        if update % args.every == 0:
            accuracy, confusion = validate(model, val_loader)
            print(f"update {update}: loss {recent.item() / args.every:.4f}  val accuracy {accuracy:.4f}")
            recent.zero_()
    print("confusion (rows are true):")
    print(confusion)


if __name__ == "__main__":
    main()
