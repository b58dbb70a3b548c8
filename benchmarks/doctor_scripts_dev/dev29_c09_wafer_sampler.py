"""Wafer maps (WM-811K style): rare patterns drawn more often, weight-standardized convolutions, cosine classifier."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

PATTERNS = ["none", "center", "edge-ring", "edge-loc", "scratch"]
SHARES = [0.60, 0.12, 0.12, 0.09, 0.07]
SIZE = 24


def wafer(kind, rng):
    """0 outside, 1 good die, 2 failed die."""
    yy, xx = np.mgrid[0:SIZE, 0:SIZE] - (SIZE - 1) / 2
    r, phi = np.hypot(yy, xx), np.arctan2(yy, xx)
    fail = np.full((SIZE, SIZE), rng.uniform(0.02, 0.06))
    if kind == 1:
        oy, ox = rng.uniform(-1.5, 1.5, 2)
        fail[np.hypot(yy - oy, xx - ox) < rng.uniform(3, 5)] = 0.8
    elif kind == 2:
        fail[r > 9.8] = 0.8
    elif kind == 3:
        start = rng.uniform(-np.pi, np.pi)
        fail[(r > 8) & (np.mod(phi - start, 2 * np.pi) < rng.uniform(0.7, 1.2))] = 0.8
    elif kind == 4:
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-4, 4)
        across = np.cos(angle) * yy - np.sin(angle) * xx - offset
        along = np.cos(angle) * xx + np.sin(angle) * yy
        fail[(np.abs(across) < 0.8) & (np.abs(along) < rng.uniform(6, 9))] = 0.9
    states = 1 + (rng.random((SIZE, SIZE)) < fail)
    states[r > 11.5] = 0
    return states


def make_set(count, seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(len(PATTERNS), size=count, p=SHARES)
    maps = torch.from_numpy(np.stack([wafer(k, rng) for k in labels]))
    one_hot = F.one_hot(maps.long(), 3).permute(0, 3, 1, 2).float()
    return one_hot, torch.from_numpy(labels).long()


class WSConv2d(nn.Conv2d):
    def forward(self, x):
        w = self.weight
        w = w - w.mean(dim=(1, 2, 3), keepdim=True)
        w = w / (w.std(dim=(1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, w, self.bias, self.stride, self.padding)


class CosineHead(nn.Module):
    def __init__(self, features, classes):
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(classes, features))
        self.log_scale = nn.Parameter(torch.tensor(8.0).log())

    def forward(self, x):
        return self.log_scale.exp() * F.normalize(x, dim=1) @ F.normalize(self.prototypes, dim=1).t()


def stage(cin, cout):
    return nn.Sequential(WSConv2d(cin, cout, 3, padding=1), nn.GroupNorm(4, cout), nn.SiLU(), nn.MaxPool2d(2))


def main():
    torch.manual_seed(31)
    train_x, train_y = make_set(1600, seed=1)
    val_x, val_y = make_set(600, seed=2)
    frequency = torch.bincount(train_y, minlength=len(PATTERNS)).float()
    print(dict(zip(PATTERNS, frequency.int().tolist())))
    sampler = WeightedRandomSampler((1 / frequency)[train_y], num_samples=len(train_y), replacement=True)
    train_loader = DataLoader(TensorDataset(train_x, train_y), batch_size=32, sampler=sampler)
    val_loader = DataLoader(TensorDataset(val_x, val_y), batch_size=100)  # as rare as they are

    net = nn.Sequential(stage(3, 16), stage(16, 32), stage(32, 64), nn.Flatten(), nn.Linear(64 * 9, 64), CosineHead(64, 5))
    decay = [p for p in net.parameters() if p.ndim > 1]
    rest = [p for p in net.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.02}, {"params": rest, "weight_decay": 0.0}], lr=1e-3)
    epochs = 12
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * len(train_loader))

    for epoch in range(1, epochs + 1):
        net.train()
        total = 0.0
        for x, y in train_loader:
            turns = int(torch.randint(0, 4, ()))
            x = torch.rot90(x, turns, dims=(2, 3))  # a pattern stays the same pattern when turned
            loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item() * len(y)
        net.eval()
        with torch.inference_mode():
            predicted = torch.cat([net(x).argmax(1) for x, _ in val_loader])
        balanced = balanced_accuracy_score(val_y.numpy(), predicted.numpy())
        plain = (predicted == val_y).float().mean().item()
        print(f"{epoch:2d}/{epochs} loss {total / len(train_y):.4f} balanced accuracy {balanced:.4f} accuracy {plain:.4f}")


if __name__ == "__main__":
    main()
