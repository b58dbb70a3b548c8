"""Audio classification from the raw wave, after the M5 tutorial of torchaudio."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import waves

LABELS = ["slow", "fast", "square", "chirp"]


class WaveDataset(Dataset):
    def __init__(self, count, seed, augment=False):
        self.waveforms, self.targets = waves(count, seed=seed)
        self.augment = augment

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        waveform = self.waveforms[index]
        if self.augment:
            gain = 0.8 + 0.4 * torch.rand(())
            polarity = 1.0 if torch.rand(()) < 0.5 else -1.0
            waveform = waveform * gain * polarity
        return waveform, LABELS[int(self.targets[index])]


def label_to_index(word):
    return torch.tensor(LABELS.index(word))


def collate_fn(batch):
    tensors, targets = [], []
    for waveform, label in batch:
        tensors.append(waveform)
        targets.append(label_to_index(label))
    return torch.stack(tensors), torch.stack(targets)


class M5(nn.Module):
    def __init__(self, n_input=1, n_output=4, n_channel=24):
        super().__init__()
        self.conv1 = nn.Conv1d(n_input, n_channel, kernel_size=9, padding=4)
        self.norm1 = nn.GroupNorm(4, n_channel)
        self.pool1 = nn.MaxPool1d(2)
        self.conv2 = nn.Conv1d(n_channel, n_channel, kernel_size=5, padding=2)
        self.norm2 = nn.GroupNorm(4, n_channel)
        self.pool2 = nn.MaxPool1d(2)
        self.conv3 = nn.Conv1d(n_channel, 2 * n_channel, kernel_size=3, padding=1)
        self.norm3 = nn.GroupNorm(4, 2 * n_channel)
        self.fc1 = nn.Linear(2 * n_channel, n_output)

    def forward(self, x):
        x = self.pool1(F.relu(self.norm1(self.conv1(x))))
        x = self.pool2(F.relu(self.norm2(self.conv2(x))))
        x = F.relu(self.norm3(self.conv3(x)))
        x = F.avg_pool1d(x, x.shape[-1]).squeeze(-1)
        return self.fc1(x)


class Meter:
    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, value, n):
        self.sum += value * n
        self.count += n

    @property
    def mean(self):
        return self.sum / max(self.count, 1)


def train_epoch(model, loader, criterion, optimizer, scheduler, device):
    model.train()
    meter = Meter()
    for x, y in loader:
        x, y = x.to(device), y.to(device)
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        scheduler.step()
        meter.update(loss.item(), len(y))
    return meter.mean


@torch.no_grad()
def evaluate(model, loader, criterion, device):
    model.eval()
    loss, accuracy = Meter(), Meter()
    for x, y in loader:
        x, y = x.to(device), y.to(device)
        logits = model(x)
        loss.update(criterion(logits, y).item(), len(y))
        accuracy.update((logits.argmax(dim=-1) == y).float().mean().item(), len(y))
    return loss.mean, accuracy.mean


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--max_lr", type=float, default=5e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_set = WaveDataset(800, seed=0, augment=True)
    val_set = WaveDataset(240, seed=1)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, collate_fn=collate_fn)
    val_loader = DataLoader(val_set, batch_size=80, collate_fn=collate_fn)

    model = M5(n_output=len(LABELS)).to(device)
    print(f"{sum(p.numel() for p in model.parameters())} parameters")
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.max_lr, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.max_lr, epochs=args.epochs, steps_per_epoch=len(train_loader), pct_start=0.2
    )
    for epoch in range(args.epochs):
        train_loss = train_epoch(model, train_loader, criterion, optimizer, scheduler, device)
        val_loss, val_acc = evaluate(model, val_loader, criterion, device)
        print(f"epoch {epoch + 1:2d}  train {train_loss:.4f}  val {val_loss:.4f}  accuracy {val_acc:.3f}")


if __name__ == "__main__":
    main()
