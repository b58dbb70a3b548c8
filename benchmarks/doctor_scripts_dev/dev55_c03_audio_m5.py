"""M5-like network for raw one-dimensional signals."""
import argparse
import random

import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves

LABELS = ["slow", "fast", "square", "chirp"]


class M5(nn.Module):
    def __init__(self, n_input=1, n_output=4, n_channel=24):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(n_input, n_channel, kernel_size=9, stride=2, padding=4, bias=False),
            nn.BatchNorm1d(n_channel),
            nn.ReLU(),
            nn.Conv1d(n_channel, n_channel, kernel_size=5, padding=2, bias=False),
            nn.BatchNorm1d(n_channel),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(n_channel, 2 * n_channel, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm1d(2 * n_channel),
            nn.ReLU(),
        )
        self.fc1 = nn.Linear(2 * n_channel, n_output)

    def forward(self, x):
        return self.fc1(self.features(x).mean(dim=-1))


class AverageMeter:
    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, value, n):
        self.sum += value * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(self.count, 1)


def collate_fn(batch):
    """Signals have one length, so they are only stacked; the random gain is applied to whole batches."""
    tensors, targets = zip(*batch)
    return torch.stack(tensors), torch.stack(targets)


def random_gain(signals, low=0.8, high=1.25):
    gain = torch.empty(len(signals), 1, 1, device=signals.device).uniform_(low, high)
    return signals * gain


def train(model, loader, criterion, optimizer, scheduler, device):
    model.train()
    meter = AverageMeter()
    for data, target in loader:
        data, target = data.to(device), target.to(device)
        output = model(random_gain(data))
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        meter.update(loss.item(), len(data))
    return meter.avg


def number_of_correct(pred, target):
    return pred.eq(target).sum().item()


@torch.no_grad()
def test(model, loader, device):
    model.eval()
    correct = 0
    confusion = torch.zeros(len(LABELS), len(LABELS), dtype=torch.long)
    for data, target in loader:
        data, target = data.to(device), target.to(device)
        pred = model(data).argmax(dim=-1)
        correct += number_of_correct(pred, target)
        for t, p in zip(target.cpu(), pred.cpu()):
            confusion[t, p] += 1
    return correct / len(loader.dataset), confusion


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=3)
    args = parser.parse_args()

    random.seed(args.seed)
    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    train_set = TensorDataset(*waves(800, seed=0))
    test_set = TensorDataset(*waves(200, seed=1))
    train_loader = DataLoader(train_set, args.batch_size, shuffle=True, collate_fn=collate_fn)
    test_loader = DataLoader(test_set, args.batch_size, shuffle=False, collate_fn=collate_fn)

    model = M5(n_output=len(LABELS)).to(device)
    print("Number of parameters:", sum(p.numel() for p in model.parameters() if p.requires_grad))
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    scheduler = optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, epochs=args.epochs, steps_per_epoch=len(train_loader)
    )

    for epoch in range(1, args.epochs + 1):
        loss = train(model, train_loader, criterion, optimizer, scheduler, device)
        accuracy, confusion = test(model, test_loader, device)
        print(f"Epoch: {epoch}\tLoss: {loss:.4f}\tTest accuracy: {accuracy:.1%}")
    for name, row in zip(LABELS, confusion.tolist()):
        print(f"{name:>8}", row)


if __name__ == "__main__":
    main()
