"""Classify short waves with a small M5 network, after the speech command tutorial of torchaudio."""

import argparse
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves

LABELS = ["slow", "fast", "square", "chirp"]


class M5(nn.Module):
    def __init__(self, n_input=1, n_output=4, stride=2, n_channel=24):
        super().__init__()
        self.conv1 = nn.Conv1d(n_input, n_channel, kernel_size=9, stride=stride, padding=4)
        self.bn1 = nn.BatchNorm1d(n_channel)
        self.conv2 = nn.Conv1d(n_channel, n_channel, kernel_size=5, padding=2)
        self.bn2 = nn.BatchNorm1d(n_channel)
        self.pool2 = nn.MaxPool1d(2)
        self.conv3 = nn.Conv1d(n_channel, 2 * n_channel, kernel_size=3, padding=1)
        self.bn3 = nn.BatchNorm1d(2 * n_channel)
        self.fc1 = nn.Linear(2 * n_channel, n_output)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.pool2(F.relu(self.bn2(self.conv2(x))))
        x = F.relu(self.bn3(self.conv3(x)))
        x = F.avg_pool1d(x, x.shape[-1]).squeeze(-1)
        return F.log_softmax(self.fc1(x), dim=1)


def random_gain(batch, low=0.8, high=1.2):
    return batch * torch.empty(len(batch), 1, 1).uniform_(low, high)


def warmup_cosine(step, warmup, total):
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def train(model, epoch, train_loader, optimizer, scheduler, log_interval):
    model.train()
    losses = []
    for batch_idx, (data, target) in enumerate(train_loader):
        output = model(random_gain(data))
        loss = F.nll_loss(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if batch_idx % log_interval == 0:
            seen = batch_idx * len(data)
            rate = scheduler.get_last_lr()[0]
            print(f"Train Epoch: {epoch} [{seen}/{len(train_loader.dataset)}]\tLoss: {loss.item():.6f}\tlr: {rate:.5f}")
        losses.append(loss.item())
    return losses


def number_of_correct(pred, target):
    return pred.eq(target).sum().item()


@torch.no_grad()
def test(model, epoch, test_loader):
    model.eval()
    correct = 0
    table = torch.zeros(len(LABELS), len(LABELS), dtype=torch.long)
    for data, target in test_loader:
        pred = model(data).argmax(dim=-1)
        correct += number_of_correct(pred, target)
        for t, p in zip(target.tolist(), pred.tolist()):
            table[t, p] += 1
    total = len(test_loader.dataset)
    print(f"Test Epoch: {epoch}\tAccuracy: {correct}/{total} ({100.0 * correct / total:.0f}%)")
    return correct / total, table


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--warmup", type=int, default=20)
    parser.add_argument("--log-interval", type=int, default=10)
    args = parser.parse_args()

    torch.manual_seed(0)
    train_set = TensorDataset(*waves(count=800, seed=0))
    test_set = TensorDataset(*waves(count=240, seed=1))
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=80, shuffle=False)

    model = M5(n_input=1, n_output=len(LABELS))
    print(f"Number of parameters: {sum(p.numel() for p in model.parameters() if p.requires_grad)}")
    total = args.epochs * len(train_loader)
    optimizer = optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=args.weight_decay)
    scheduler = optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, args.warmup, total))

    history = []
    for epoch in range(1, args.epochs + 1):
        history += train(model, epoch, train_loader, optimizer, scheduler, args.log_interval)
        accuracy, table = test(model, epoch, test_loader)
    print(f"first loss {history[0]:.3f}, last loss {history[-1]:.3f}, accuracy {accuracy:.3f}")
    for name, row in zip(LABELS, table.tolist()):
        print(f"{name:>8}", *(f"{value:4d}" for value in row))


if __name__ == "__main__":
    main()
