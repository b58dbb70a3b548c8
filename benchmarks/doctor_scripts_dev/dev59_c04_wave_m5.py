"""Command recognition on raw waveforms with an M5-like network, with accumulated gradients."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import waves

LABELS = ["slow", "fast", "square", "chirp"]


class SubsetWaves(Dataset):
    def __init__(self, subset, length=128):
        count, seed = {"training": (1024, 0), "validation": (300, 1)}[subset]
        self.signals, self.labels = waves(count=count, length=length, seed=seed)
        self.training = subset == "training"

    def __len__(self):
        return len(self.signals)

    def __getitem__(self, n):
        waveform = self.signals[n]
        if self.training:
            gain = 0.8 + 0.4 * torch.rand(1)
            waveform = gain * waveform
        return waveform, 128, LABELS[int(self.labels[n])]


def label_to_index(word):
    return torch.tensor(LABELS.index(word))


def collate_fn(batch):
    tensors, targets = [], []
    for waveform, _, label in batch:
        tensors.append(waveform)
        targets.append(label_to_index(label))
    return torch.stack(tensors), torch.stack(targets)


class M5(nn.Module):
    def __init__(self, n_input=1, n_output=4, n_channel=24):
        super().__init__()
        self.conv1 = nn.Conv1d(n_input, n_channel, kernel_size=15, stride=2, padding=7)
        self.bn1 = nn.BatchNorm1d(n_channel)
        self.conv2 = nn.Conv1d(n_channel, n_channel, kernel_size=5, padding=2)
        self.bn2 = nn.BatchNorm1d(n_channel)
        self.pool = nn.MaxPool1d(2)
        self.conv3 = nn.Conv1d(n_channel, 2 * n_channel, kernel_size=5, padding=2)
        self.bn3 = nn.BatchNorm1d(2 * n_channel)
        self.fc1 = nn.Linear(2 * n_channel, n_output)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.pool(F.relu(self.bn2(self.conv2(x))))
        x = self.pool(F.relu(self.bn3(self.conv3(x))))
        x = F.avg_pool1d(x, x.shape[-1]).squeeze(-1)
        return self.fc1(x)


class Trainer:
    def __init__(self, model, device, args, train_loader, valid_loader):
        self.model, self.device, self.args = model.to(device), device, args
        self.train_loader, self.valid_loader = train_loader, valid_loader
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=1e-4
        )
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=args.epochs)

    def train_epoch(self):
        self.model.train()
        losses, seen = 0.0, 0
        self.optimizer.zero_grad()
        for step, (data, target) in enumerate(self.train_loader, start=1):
            data, target = data.to(self.device), target.to(self.device)
            logits = self.model(data)
            loss = F.cross_entropy(logits, target)
            (loss / self.args.accumulate).backward()
            losses += loss.item() * len(target)
            seen += len(target)
            if step % self.args.accumulate == 0:
                self.optimizer.step()
                self.optimizer.zero_grad()
        self.scheduler.step()
        return losses / seen

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        correct = total = 0
        for data, target in self.valid_loader:
            pred = self.model(data.to(self.device)).argmax(dim=-1).cpu()
            correct += (pred == target).sum().item()
            total += target.numel()
        return correct / total

    def fit(self):
        for epoch in range(1, self.args.epochs + 1):
            lr = self.scheduler.get_last_lr()[0]
            loss = self.train_epoch()
            print(f"epoch {epoch:2d} | lr {lr:.4f} | loss {loss:.4f} | valid acc {self.validate():.3f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--accumulate", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # 1024 waveforms make 64 batches, that is 16 whole steps
    train_loader = DataLoader(
        SubsetWaves("training"), batch_size=args.batch_size, shuffle=True, collate_fn=collate_fn, drop_last=True
    )
    valid_loader = DataLoader(SubsetWaves("validation"), batch_size=100, collate_fn=collate_fn)
    Trainer(M5(), device, args, train_loader, valid_loader).fit()


if __name__ == "__main__":
    main()
