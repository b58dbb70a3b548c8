"""Classify machine sounds straight from the waveform with 1-D convolutions (in the manner of M5)."""

import argparse

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

RATE, LENGTH = 4000, 1024
CLASSES = ["idle", "cruise", "full speed", "siren", "knocking"]
PITCH = {"idle": 150.0, "cruise": 190.0, "full speed": 240.0}


def synthesize(kind, rng):
    time = np.arange(LENGTH) / RATE
    phase = rng.uniform(0, 2 * np.pi)
    if kind in PITCH:
        pitch = PITCH[kind] * rng.uniform(0.96, 1.04)
        angle = 2 * np.pi * pitch * time + phase
        wave = np.sin(angle) + 0.5 * np.sin(2 * angle) + 0.25 * np.sin(3 * angle)
    elif kind == "siren":
        start, slope = rng.uniform(300, 400), rng.uniform(1500, 2500)
        wave = 1.2 * np.sin(2 * np.pi * (start + slope * time / 2) * time + phase)
    else:
        beat = rng.uniform(0.05, 0.08)
        since = (time + rng.uniform(0, beat)) % beat
        wave = 2.0 * np.exp(-since * 120) * np.sin(2 * np.pi * 600 * since)
    wave = wave * rng.uniform(0.8, 1.2) + 0.4 * rng.standard_normal(LENGTH)
    return np.clip(0.06 * wave * 32767, -32768, 32767).astype(np.int16)


def record(count, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(CLASSES), count)
    clips = np.stack([synthesize(CLASSES[label], rng) for label in labels])
    return clips, labels


class Clips(Dataset):
    def __init__(self, clips, labels, mean, std, training):
        self.clips, self.labels = clips, torch.as_tensor(labels, dtype=torch.long)
        self.mean, self.std = mean, std
        self.training = training
        self.rng = np.random.default_rng(7)

    def __len__(self):
        return len(self.clips)

    def augment(self, wave):
        wave = np.roll(wave, self.rng.integers(0, LENGTH))
        return wave * self.rng.uniform(0.8, 1.25)

    def __getitem__(self, index):
        wave = self.clips[index].astype(np.float32) / 32768.0
        if self.training:
            wave = self.augment(wave)
        wave = (wave - self.mean) / self.std
        return torch.as_tensor(wave, dtype=torch.float32).unsqueeze(0), self.labels[index]


def block(inputs, outputs, kernel, stride=1):
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm1d(outputs),
        nn.ReLU(),
        nn.MaxPool1d(2),
    )


class SoundNet(nn.Module):
    def __init__(self, classes, width=32):
        super().__init__()
        self.features = nn.Sequential(
            block(1, width, 81, stride=4),
            block(width, 2 * width, 5),
            block(2 * width, 2 * width, 5),
        )
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x):
        x = self.features(x).mean(dim=-1)
        return self.head(self.dropout(x))


def train(model, loader, optimizer, criterion):
    model.train()
    total = 0.0
    for waves, labels in loader:
        optimizer.zero_grad()
        loss = criterion(model(waves), labels)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
    return total / len(loader.dataset)


@torch.no_grad()
def evaluate(model, loader, criterion):
    model.eval()
    total, correct = 0.0, 0
    for waves, labels in loader:
        logits = model(waves)
        total += criterion(logits, labels).item() * len(labels)
        correct += (logits.argmax(dim=1) == labels).sum().item()
    return total / len(loader.dataset), correct / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.03)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    torch.set_num_threads(1)

    train_clips, train_labels = record(1600, seed=1)
    valid_clips, valid_labels = record(400, seed=2)
    scaled = train_clips.astype(np.float32) / 32768.0
    mean, std = float(scaled.mean()), float(scaled.std())

    train_set = Clips(train_clips, train_labels, mean, std, training=True)
    valid_set = Clips(valid_clips, valid_labels, mean, std, training=False)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(valid_set, batch_size=100)

    model = SoundNet(len(CLASSES))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=8, gamma=0.3)

    for epoch in range(1, args.epochs + 1):
        train_loss = train(model, train_loader, optimizer, criterion)
        valid_loss, accuracy = evaluate(model, valid_loader, criterion)
        scheduler.step()
        print(f"epoch {epoch:2d}  train loss {train_loss:.4f}  valid loss {valid_loss:.4f}  accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
