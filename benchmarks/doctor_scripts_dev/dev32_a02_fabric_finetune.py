"""Fine-tuning: a network that knows six common weaves learns five rare ones from a few samples of each."""

import argparse
import os
import tempfile

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

COMMON = ["stripes", "pinstripes", "check", "dots", "twill", "grid"]
RARE = ["herringbone", "wave", "rib", "polka", "lattice"]
SIZE = 24


def weave(name, rng):
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    period = rng.uniform(5, 8)
    u = 2 * np.pi * x / period + rng.uniform(0, 6.28)
    v = 2 * np.pi * y / period + rng.uniform(0, 6.28)
    threads = {
        "stripes": lambda: np.sin(v) > 0,
        "pinstripes": lambda: np.sin(u) > 0.6,
        "check": lambda: np.sin(u) * np.sin(v) > 0,
        "dots": lambda: np.sin(u) + np.sin(v) > 0.9,
        "twill": lambda: np.sin(u + v) > 0,
        "grid": lambda: np.maximum(np.sin(u), np.sin(v)) > 0.8,
        "herringbone": lambda: np.sin(v + 2 * np.arcsin(np.sin(u / 1.5))) > 0,
        "wave": lambda: np.sin(v + 0.8 * np.sin(u)) > 0.5,
        "rib": lambda: np.sin(u - v) > 0,
        "polka": lambda: np.sin(u) + np.sin(v) > 1.3,
        "lattice": lambda: np.maximum(np.cos(u + v), np.cos(u - v)) > 0.85,
    }[name]()
    ground = rng.uniform(0.15, 0.85, 3)
    thread = ground + np.where(ground > 0.5, -1, 1) * rng.uniform(0.2, 0.5)
    image = np.where(threads[..., None], thread, ground)
    return (image + rng.normal(0, 0.1, image.shape)).clip(0, 1).astype(np.float32)


def collect(names, seed):
    rng = np.random.default_rng(seed)
    images = np.stack([weave(name, rng) for name in names]).transpose(0, 3, 1, 2)
    return (torch.from_numpy(np.ascontiguousarray(images)) - 0.5) / 0.25


def encode(names, classes=None):
    classes = classes or list(dict.fromkeys(names))
    return torch.tensor([classes.index(name) for name in names]), classes


class WeaveNet(nn.Module):
    def __init__(self, classes):
        super().__init__()
        layers = []
        for inputs, outputs in ((3, 24), (24, 32), (32, 64)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers, nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(64, classes)

    def forward(self, x):
        return self.fc(self.pool(self.features(x)))


def train_epoch(model, loader, optimizer, criterion):
    model.train()
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
    return total / len(loader.dataset)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    right = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    return right / len(loader.dataset)


def pretrain(path, epochs):
    names = COMMON * 300
    targets, _ = encode(names, COMMON)
    loader = DataLoader(TensorDataset(collect(names, 0), targets), batch_size=32, shuffle=True)
    model = WeaveNet(len(COMMON))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(epochs):
        loss = train_epoch(model, loader, optimizer, nn.CrossEntropyLoss())
        print(f"pretraining {epoch + 1}: loss {loss:.3f}")
    torch.save({"state_dict": model.state_dict(), "classes": COMMON}, path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pretrain-epochs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--backbone-lr", type=float, default=2e-4)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)

    path = os.path.join(tempfile.mkdtemp(), "weaves.pt")
    pretrain(path, args.pretrain_epochs)

    train_names = [name for name in RARE for _ in range(60)]
    valid_names = np.random.default_rng(5).permutation(np.repeat(RARE, 60)).tolist()
    y_train, classes = encode(train_names)
    y_valid, _ = encode(valid_names, classes)
    train_loader = DataLoader(TensorDataset(collect(train_names, 1), y_train), batch_size=20, shuffle=True)
    valid_loader = DataLoader(TensorDataset(collect(valid_names, 2), y_valid), batch_size=50)

    checkpoint = torch.load(path)
    model = WeaveNet(len(checkpoint["classes"]))
    model.load_state_dict(checkpoint["state_dict"])
    model.fc = nn.Linear(model.fc.in_features, len(classes))
    optimizer = torch.optim.Adam([
        {"params": model.features.parameters(), "lr": args.backbone_lr},
        {"params": model.fc.parameters(), "lr": args.lr},
    ])
    criterion = nn.CrossEntropyLoss()

    for epoch in range(args.epochs):
        loss = train_epoch(model, train_loader, optimizer, criterion)
        print(f"epoch {epoch + 1:2d}  loss {loss:.3f}  valid accuracy {evaluate(model, valid_loader):.3f}")
    os.remove(path)


if __name__ == "__main__":
    main()
