"""Human activity from a body-worn accelerometer: windows, a 1-D CNN, subjects of validation never seen in training."""

import argparse
import collections
import os
import random
import tempfile

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

RATE = 25
ACTIVITIES = ["walking", "running", "stairs", "sitting", "cycling"]
# steps a second, strength of the three axes, posture
SPECTRUM = {
    "walking": (1.6, (0.6, 0.3, 0.3)),
    "running": (2.7, (1.3, 0.5, 0.6)),
    "stairs": (1.3, (0.5, 0.2, 0.7)),
    "sitting": (0.2, (0.03, 0.03, 0.03)),
    "cycling": (1.2, (0.15, 0.6, 0.1)),
}


def record(subject):
    """A person's day: signal T x 3, activity at each moment. People differ in tempo, strength and fit of the strap."""
    rng = np.random.default_rng(100 + subject)
    tempo, strength = rng.uniform(0.7, 1.35), rng.uniform(0.5, 1.6)
    tilt = rng.normal(0, 0.4, 3)
    signal, activity = [], []
    order = list(range(len(ACTIVITIES))) * 2
    rng.shuffle(order)
    for kind in order:
        hertz, axes = SPECTRUM[ACTIVITIES[kind]]
        length = int(RATE * (rng.uniform(5, 8) if ACTIVITIES[kind] in ("stairs", "cycling") else rng.uniform(20, 30)))
        time = np.arange(length) / RATE
        phase = 2 * np.pi * (hertz * tempo * time + np.cumsum(rng.normal(0, 0.01, length)))
        wave = np.stack([np.sin(phase), np.sin(2 * phase + 0.7), np.cos(phase)], 1)
        signal.append(wave * np.array(axes) * strength + tilt + 0.2 * rng.standard_normal((length, 3)))
        activity.append(np.full(length, kind))
    return np.concatenate(signal).astype(np.float32), np.concatenate(activity)


def sliding_windows(signal, activity, size, stride):
    """Windows N x T x 3 with the activity that most of each shows."""
    windows, labels = [], []
    for start in range(0, len(signal) - size + 1, stride):
        counts = np.bincount(activity[start : start + size], minlength=len(ACTIVITIES))
        if counts.max() < 0.8 * size:
            continue
        windows.append(signal[start : start + size])
        labels.append(counts.argmax())
    return np.stack(windows), np.array(labels)


def windows_of(subjects, size, stride):
    parts = [sliding_windows(*record(s), size, stride) for s in subjects]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


class Standardizer:
    def fit(self, windows):
        self.mean = windows.mean((0, 1), keepdims=True)
        self.std = windows.std((0, 1), keepdims=True) + 1e-6
        return self

    def __call__(self, windows):
        return (windows - self.mean) / self.std


def to_dataset(windows, labels, standardize):
    x = torch.from_numpy(standardize(windows).astype(np.float32))
    return TensorDataset(x.permute(0, 2, 1).contiguous(), torch.from_numpy(labels))


class ActivityNet(nn.Module):
    def __init__(self, channels=3, classes=len(ACTIVITIES)):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(channels, 24, 7, padding=3), nn.BatchNorm1d(24), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(24, 32, 5, padding=2), nn.BatchNorm1d(32), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(32, 48, 5, padding=2), nn.BatchNorm1d(48), nn.ReLU(),
        )
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(48, classes)

    def forward(self, x):
        return self.fc(self.dropout(self.features(x).mean(2)))


def balanced_sampler(labels):
    counts = np.bincount(labels, minlength=len(ACTIVITIES))
    weights = 1.0 / counts[labels]
    return WeightedRandomSampler(torch.from_numpy(weights).double(), num_samples=len(labels))


@torch.no_grad()
def evaluate(model, loader):
    """Loss, and recall averaged over the activities."""
    model.eval()
    total, confusion = 0.0, torch.zeros(len(ACTIVITIES), len(ACTIVITIES))
    for x, y in loader:
        logits = model(x)
        total += nn.functional.cross_entropy(logits, y, reduction="sum").item()
        for truth, guess in zip(y.tolist(), logits.argmax(1).tolist()):
            confusion[truth, guess] += 1
    recall = confusion.diag() / confusion.sum(1).clamp(min=1)
    return total / len(loader.dataset), recall.mean().item()


@torch.no_grad()
def evaluate_stream(model, subject, standardize, size, stride=5):
    """As it will be used: windows slide over a whole day, each moment gets the vote of those that cover it."""
    model.eval()
    signal, activity = record(subject)
    votes = np.zeros((len(signal), len(ACTIVITIES)))
    starts = list(range(0, len(signal) - size + 1, stride))
    x = np.stack([signal[s : s + size] for s in starts])
    x = torch.from_numpy(standardize(x).astype(np.float32)).permute(0, 2, 1)
    for start, p in zip(starts, model(x).softmax(1).numpy()):
        votes[start : start + size] += p
    return float((votes.argmax(1) == activity).mean())


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--window", type=int, default=48)
    parser.add_argument("--stride", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--val-subjects", type=int, nargs="+", default=[9, 10, 11, 12, 13])
    parser.add_argument("--subjects", type=int, default=14)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main():
    args = parse_args()
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    np.random.seed(args.seed)
    train_subjects = [s for s in range(args.subjects) if s not in args.val_subjects]
    train_x, train_y = windows_of(train_subjects, args.window, args.stride)
    val_x, val_y = windows_of(args.val_subjects, args.window, args.stride)
    print("training windows:", dict(collections.Counter(ACTIVITIES[i] for i in train_y)))
    standardize = Standardizer().fit(train_x)
    train_set, val_set = to_dataset(train_x, train_y, standardize), to_dataset(val_x, val_y, standardize)
    train_loader = DataLoader(train_set, args.batch_size, sampler=balanced_sampler(train_y))
    val_loader = DataLoader(val_set, 128)

    model = ActivityNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr * 2, total_steps=args.epochs * len(train_loader))
    checkpoint = os.path.join(tempfile.mkdtemp(), "best.pt")
    best = 0.0
    for epoch in range(args.epochs):
        model.train()
        running = 0.0
        for x, y in train_loader:
            x = x * (0.9 + 0.2 * torch.rand(len(x), 1, 1))
            loss = nn.functional.cross_entropy(model(x), y, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            running += loss.item()
        val_loss, recall = evaluate(model, val_loader)
        print(f"epoch {epoch:2d}  train {running / len(train_loader):.4f}  val {val_loss:.4f}  mean recall {recall:.3f}")
        if recall > best:
            best = recall
            torch.save(model.state_dict(), checkpoint)
    model.load_state_dict(torch.load(checkpoint))
    stream = [evaluate_stream(model, s, standardize, args.window) for s in args.val_subjects]
    print(f"best mean recall {evaluate(model, val_loader)[1]:.3f}; streams of new subjects {np.mean(stream):.3f}")


if __name__ == "__main__":
    main()
