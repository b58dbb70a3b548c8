"""Bearing fault diagnosis with a wide-kernel 1-D CNN (after WDCNN, Zhang et al. 2017).

Signals come from 30 machines; six of them are kept for validation.
"""
import numpy as np
import torch
import torch.nn as nn
from sklearn.model_selection import GroupShuffleSplit
from torch.utils.data import DataLoader, TensorDataset

LENGTH = 512
FAULTS = ["normal", "inner race", "outer race", "ball"]
PERIODS = {1: 37, 2: 61, 3: 89}
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def simulate(rng, kind, machine):
    t = np.arange(LENGTH)
    shaft = 2 * np.pi * t / (300 * machine["speed"])
    signal = 0.4 * np.sin(shaft + rng.uniform(0, 6.28)) + machine["noise"] * rng.standard_normal(LENGTH)
    if kind > 0:
        period = PERIODS[kind] * machine["speed"] * rng.uniform(0.98, 1.02)
        start = rng.uniform(-period, 0)
        ring = np.zeros(LENGTH)
        while start < LENGTH:
            since = t - start
            hit = (since >= 0) * np.exp(-np.clip(since, 0, None) / 7) * np.sin(machine["ring"] * since)
            ring += hit * rng.uniform(0.8, 1.2)
            start += period
        if kind == 1:
            ring *= 1 + 0.6 * np.sin(shaft + rng.uniform(0, 6.28))
        signal += rng.uniform(1.2, 1.8) * ring
    return signal


def build(seed=0, machines=30, per_machine=80):
    rng = np.random.default_rng(seed)
    x, y, group = [], [], []
    for m in range(machines):
        machine = {"speed": rng.uniform(0.95, 1.05), "noise": rng.uniform(0.15, 0.3), "ring": rng.uniform(1.2, 1.6)}
        for _ in range(per_machine):
            kind = int(rng.integers(0, 4))
            x.append(simulate(rng, kind, machine))
            y.append(kind)
            group.append(m)
    x = np.stack(x)
    x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)  # each signal by itself
    return torch.tensor(x, dtype=torch.float32).unsqueeze(1), torch.tensor(y), np.array(group)


class WDCNN(nn.Module):
    def __init__(self, classes=4):
        super().__init__()

        def layer(cin, cout, k, stride=1):
            return [nn.Conv1d(cin, cout, k, stride=stride, padding=k // 2), nn.BatchNorm1d(cout), nn.ReLU()]

        self.net = nn.Sequential(
            *layer(1, 16, 31, stride=2), nn.MaxPool1d(2),
            *layer(16, 32, 7), nn.MaxPool1d(2),
            *layer(32, 48, 7), nn.MaxPool1d(2),
            *layer(48, 64, 5), nn.MaxPool1d(2),
            *layer(64, 64, 3), nn.AdaptiveAvgPool1d(4),
        )
        self.fc = nn.Sequential(nn.Linear(256, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, classes))

    def forward(self, x):
        return self.fc(self.net(x).flatten(1))


def train(model, loader, loss_fn, optimizer):
    model.train()
    total = 0
    for x, y in loader:
        x, y = x.to(device), y.to(device)
        pred = model(x)
        loss = loss_fn(pred, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        total += loss.item() * len(x)
    return total / len(loader.dataset)


def evaluate(model, loader, loss_fn):
    size = len(loader.dataset)
    model.eval()
    loss, correct = 0, 0
    with torch.no_grad():
        for x, y in loader:
            x, y = x.to(device), y.to(device)
            pred = model(x)
            loss += loss_fn(pred, y).item() * len(x)
            correct += (pred.argmax(1) == y).type(torch.float).sum().item()
    return loss / size, correct / size


def main():
    torch.manual_seed(0)
    x, y, group = build()
    splitter = GroupShuffleSplit(n_splits=1, test_size=0.2, random_state=0)
    train_index, val_index = next(splitter.split(np.zeros(len(group)), groups=group))
    train_loader = DataLoader(TensorDataset(x[train_index], y[train_index]), batch_size=32, shuffle=True)
    val_loader = DataLoader(TensorDataset(x[val_index], y[val_index]), batch_size=120)

    model = WDCNN().to(device)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.4)
    for epoch in range(15):
        train_loss = train(model, train_loader, loss_fn, optimizer)
        val_loss, accuracy = evaluate(model, val_loader, loss_fn)
        scheduler.step()
        print(f"Epoch {epoch + 1}\n  train loss {train_loss:.4f}  val loss {val_loss:.4f}  accuracy {100 * accuracy:.1f}%")


if __name__ == "__main__":
    main()
