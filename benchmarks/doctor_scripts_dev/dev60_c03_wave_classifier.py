"""Classify short sound-like signals with a one-dimensional convolutional network."""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import waves

CLASS_NAMES = ["slow", "fast", "square", "chirp"]


class WaveDataset(Dataset):
    """Signals of one channel; in training with a random gain and a little noise."""

    def __init__(self, count, seed, augment=False):
        # all clips of one kind lie together, as they do in the folders of real collections
        signals, labels = waves(count, seed=seed)
        order = torch.argsort(labels, stable=True)
        self.signals, self.labels = signals[order], labels[order]
        self.augment = augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        signal, label = self.signals[index], self.labels[index]
        if self.augment:
            gain = 0.8 + 0.4 * torch.rand(1)
            signal = gain * signal + 0.05 * torch.randn_like(signal)
        return signal, label


class M3(nn.Module):
    """A wide first kernel, then two narrow ones, as networks for raw waveforms have."""

    def __init__(self, n_output, n_channel=24):
        super().__init__()
        self.conv1 = nn.Conv1d(1, n_channel, kernel_size=9, stride=2, padding=4)
        self.bn1 = nn.BatchNorm1d(n_channel)
        self.conv2 = nn.Conv1d(n_channel, n_channel, kernel_size=5, padding=2)
        self.bn2 = nn.BatchNorm1d(n_channel)
        self.pool = nn.MaxPool1d(2)
        self.conv3 = nn.Conv1d(n_channel, 2 * n_channel, kernel_size=5, padding=2)
        self.bn3 = nn.BatchNorm1d(2 * n_channel)
        self.fc1 = nn.Linear(2 * n_channel, n_output)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.pool(torch.relu(self.bn2(self.conv2(x))))
        x = torch.relu(self.bn3(self.conv3(x)))
        return self.fc1(x.mean(dim=-1))


class Trainer:
    def __init__(self, model, optimizer, scheduler, loss_fn):
        self.model, self.optimizer, self.scheduler, self.loss_fn = model, optimizer, scheduler, loss_fn

    def fit_epoch(self, loader):
        self.model.train()
        total, seen = 0.0, 0
        for signal, label in loader:
            self.optimizer.zero_grad()
            loss = self.loss_fn(self.model(signal), label)
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(label)
            seen += len(label)
        self.scheduler.step()
        return total / seen

    @torch.no_grad()
    def confusion(self, loader):
        self.model.eval()
        matrix = torch.zeros(len(CLASS_NAMES), len(CLASS_NAMES), dtype=torch.long)
        for signal, label in loader:
            predicted = self.model(signal).argmax(dim=1)
            for truth, guess in zip(label.tolist(), predicted.tolist()):
                matrix[truth, guess] += 1
        return matrix


def accuracy(matrix):
    return (matrix.diagonal().sum() / matrix.sum()).item()


def report(matrix):
    recall = matrix.diagonal() / matrix.sum(dim=1).clamp(min=1)
    for name, value in zip(CLASS_NAMES, recall.tolist()):
        print(f"  {name:8s} recall {value:.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-epoch", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=3)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    train_set = WaveDataset(800, seed=0, augment=True)
    valid_set = WaveDataset(200, seed=1)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    valid_loader = DataLoader(valid_set, batch_size=100)

    model = M3(len(CLASS_NAMES))
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.3)
    trainer = Trainer(model, optimizer, scheduler, nn.CrossEntropyLoss())

    for epoch in range(1, args.n_epoch + 1):
        train_loss = trainer.fit_epoch(train_loader)
        matrix = trainer.confusion(valid_loader)
        print(f"epoch {epoch:2d}  loss {train_loss:.4f}  valid accuracy {accuracy(matrix):.3f}")
    report(matrix)


if __name__ == "__main__":
    main()
