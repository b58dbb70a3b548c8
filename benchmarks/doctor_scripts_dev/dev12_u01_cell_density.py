"""How many cells per microlitre does a micrograph show? A small CNN regresses the concentration.

The images are drawn here (blobs of various sizes on a ground of varying brightness); targets are
standardised for training and mapped back to cells per microlitre for every reported number.
"""
import argparse
import os
import tempfile
import time

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

VOLUME_FACTOR = 50.0  # cells in the field of view -> cells per microlitre


def make_micrographs(count, size, seed):
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[0:size, 0:size].astype(np.float32)
    images = np.zeros((count, size, size), dtype=np.uint8)
    values = np.zeros(count, dtype=np.float32)
    for i in range(count):
        cells = int(rng.integers(4, 37))
        canvas = np.full((size, size), 0.10 + 0.15 * rng.random(), dtype=np.float32)
        for _ in range(cells):
            cy, cx = rng.uniform(1, size - 1, 2)
            radius = rng.uniform(0.8, 1.3)
            canvas += 0.45 * np.exp(-((yy - cy) ** 2 + (xx - cx) ** 2) / (2 * radius**2))
        canvas += 0.03 * rng.standard_normal((size, size))
        images[i] = (canvas.clip(0, 1) * 255).astype(np.uint8)
        values[i] = cells * VOLUME_FACTOR
    return images, values


def to_float(image):
    return torch.from_numpy(image).unsqueeze(0).float().div(255)


def train_transform(image):
    x = to_float(image)
    if torch.rand(()) < 0.5:
        x = x.flip(-1)
    if torch.rand(()) < 0.5:
        x = x.flip(-2)
    return (x - 0.35) / 0.20


def eval_transform(image):
    x = to_float(image)
    return (x - 0.35) / 0.20


class Micrographs(Dataset):
    def __init__(self, images, values, transform):
        self.images, self.values, self.transform = images, values, transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.transform(self.images[i]), torch.tensor(self.values[i])


class Standardizer:
    """Zero mean and unit variance for the targets of training."""

    def __init__(self):
        self.mean, self.std = 0.0, 1.0

    def fit(self, values):
        self.mean, self.std = float(values.mean()), float(values.std())

    def transform(self, y):
        return (y - self.mean) / self.std

    def inverse(self, y):
        return y * self.std + self.mean


class DensityNet(nn.Module):
    def __init__(self, width=12):
        super().__init__()

        def block(cin, cout, stride):
            return nn.Sequential(
                nn.Conv2d(cin, cout, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU()
            )

        self.features = nn.Sequential(
            block(1, width, 1),
            block(width, 2 * width, 2),
            block(2 * width, 2 * width, 2),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        self.regressor = nn.Sequential(
            nn.Linear(8 * width, 32),
            nn.ReLU(),
            nn.Linear(32, 1),
        )

    def forward(self, x):
        return self.regressor(self.features(x)).squeeze(1)


@torch.no_grad()
def evaluate(model, loader, scaler, device):
    model.eval()
    predicted, truth = [], []
    for images, values in loader:
        predicted.append(scaler.inverse(model(images.to(device))).cpu())
        truth.append(values)
    predicted, truth = torch.cat(predicted), torch.cat(truth)
    mae = (predicted - truth).abs().mean().item()
    r2 = 1 - ((predicted - truth) ** 2).mean().item() / truth.var(unbiased=False).item()
    return mae, r2


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    images, values = make_micrographs(1500, args.size, args.seed)
    train_x, val_x, test_x = images[:1000], images[1000:1250], images[1250:]
    train_y, val_y, test_y = values[:1000], values[1000:1250], values[1250:]
    scaler = Standardizer()
    scaler.fit(train_y)
    print(f"targets: mean {train_y.mean():.0f}, std {train_y.std():.0f} cells/ul")

    train_set = Micrographs(train_x, train_y, train_transform)
    val_set = Micrographs(val_x, val_y, eval_transform)
    test_set = Micrographs(test_x, test_y, eval_transform)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=125)
    test_loader = DataLoader(test_set, batch_size=125)

    model = DensityNet().to(device)
    criterion = nn.MSELoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)

    checkpoint = os.path.join(tempfile.mkdtemp(prefix="density_"), "best.pt")
    best = float("inf")
    for epoch in range(1, args.epochs + 1):
        started = time.time()
        model.train()
        total = 0.0
        for x, y in train_loader:
            x, y = x.to(device), scaler.transform(y.to(device))
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
        scheduler.step()
        mae, r2 = evaluate(model, val_loader, scaler, device)
        print(
            f"epoch {epoch:2d}  loss {total / len(train_loader):.4f}  val MAE {mae:7.1f} cells/ul  "
            f"R2 {r2:.3f}  ({time.time() - started:.1f}s)"
        )
        if mae < best:
            best = mae
            torch.save({"model": model.state_dict(), "mean": scaler.mean, "std": scaler.std}, checkpoint)

    state = torch.load(checkpoint)
    model.load_state_dict(state["model"])
    mae, r2 = evaluate(model, test_loader, scaler, device)
    print(f"best val MAE {best:.1f}; test MAE {mae:.1f} cells/ul, R2 {r2:.3f}")


if __name__ == "__main__":
    main()
