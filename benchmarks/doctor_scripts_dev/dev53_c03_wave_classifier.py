"""Sound events from raw waveforms: a 1-D network (like M5), trained with accumulated gradients."""

import argparse
from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import waves

CLASSES = ["slow", "fast", "square", "chirp"]


class WaveDataset(Dataset):
    """Standardized signals; in training they are louder or quieter, and noisier, each time."""

    def __init__(self, count, seed, augment=False):
        signals, self.labels = waves(count, seed=seed)
        self.signals = (signals - signals.mean(-1, keepdim=True)) / signals.std(-1, keepdim=True)
        self.augment = augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        signal = self.signals[index]
        if self.augment:
            gain = 0.8 + 0.4 * torch.rand(())
            signal = gain * signal + 0.05 * torch.randn_like(signal)
        return signal, self.labels[index]


def conv_block(n_in, n_out, kernel, stride=1):
    return nn.Sequential(
        nn.Conv1d(n_in, n_out, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm1d(n_out),
        nn.ReLU(inplace=True),
    )


class M3(nn.Module):
    def __init__(self, n_class, width=24):
        super().__init__()
        self.features = nn.Sequential(
            conv_block(1, width, 9, stride=2),
            conv_block(width, 2 * width, 5),
            nn.MaxPool1d(2),
            conv_block(2 * width, 2 * width, 3),
        )
        self.classifier = nn.Linear(2 * width, n_class)

    def forward(self, x):
        return self.classifier(self.features(x).mean(-1))


class History:
    def __init__(self):
        self.values = defaultdict(list)

    def add(self, **values):
        for name, value in values.items():
            self.values[name].append(value)

    def last(self):
        return "  ".join(f"{name} {values[-1]:.4f}" for name, values in self.values.items())


@torch.no_grad()
def evaluate(model, loader, device):
    model.eval()
    loss, hits, total = 0.0, torch.zeros(len(CLASSES)), torch.zeros(len(CLASSES))
    for signals, labels in loader:
        logits = model(signals.to(device)).cpu()
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        hits += torch.bincount(labels[logits.argmax(1) == labels], minlength=len(CLASSES))
        total += torch.bincount(labels, minlength=len(CLASSES))
    n = total.sum().item()
    return loss / n, hits.sum().item() / n, hits / total.clamp(min=1)


def train_epoch(model, loader, criterion, optimizer, scheduler, args, device):
    model.train()
    running = torch.zeros(())
    optimizer.zero_grad()
    for i, (signals, labels) in enumerate(loader):
        loss = criterion(model(signals.to(device)), labels.to(device))
        (loss / args.accum).backward()
        running += loss.detach().cpu()
        if (i + 1) % args.accum == 0:
            nn.utils.clip_grad_norm_(model.parameters(), args.clip)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    return running.item() / len(loader)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=30, help="signals in one pass")
    parser.add_argument("--accum", type=int, default=2, help="passes in one step")
    parser.add_argument("--max-lr", type=float, default=1e-2)
    parser.add_argument("--clip", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    train_set = WaveDataset(1200, seed=0, augment=True)
    valid_set = WaveDataset(300, seed=1)
    # 1,200 signals are 40 full batches, and 20 steps of two of them each
    train_loader = DataLoader(train_set, args.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(valid_set, 100)

    model = M3(len(CLASSES)).to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.max_lr, weight_decay=1e-2)
    steps = args.epochs * (len(train_loader) // args.accum)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.max_lr, total_steps=steps)

    history = History()
    for epoch in range(args.epochs):
        train_loss = train_epoch(model, train_loader, criterion, optimizer, scheduler, args, device)
        valid_loss, accuracy, per_class = evaluate(model, valid_loader, device)
        history.add(train_loss=train_loss, valid_loss=valid_loss, accuracy=accuracy)
        print(f"epoch {epoch + 1:2d}  {history.last()}")
    print({name: round(value, 3) for name, value in zip(CLASSES, per_class.tolist())})


if __name__ == "__main__":
    main()
