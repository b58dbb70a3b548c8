"""Keyword spotting on log spectrograms (in the manner of the torchaudio tutorials), with SpecAugment and a balanced sampler."""

import argparse
import math
from collections import Counter

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

SAMPLE_RATE = 8000
LABELS = ["up", "down", "low", "high", "trill", "stop"]
SHARES = torch.tensor([0.2, 0.2, 0.2, 0.2, 0.15, 0.05])


def synthesize(label, generator, length=2048):
    """One utterance of a quarter of a second."""
    def uniform(low, high):
        return low + (high - low) * torch.rand((), generator=generator).item()

    t, span = torch.arange(length) / SAMPLE_RATE, length / SAMPLE_RATE
    base = uniform(0.9, 1.1)
    if label == "up":
        freq = base * (600 + 1600 * t / span)
    elif label == "down":
        freq = base * (2200 - 1600 * t / span)
    elif label == "low":
        freq = base * torch.full_like(t, 700)
    elif label == "high":
        freq = base * torch.full_like(t, 2000)
    elif label == "trill":
        freq = base * (1400 + 500 * torch.sign(torch.sin(2 * math.pi * 12 * t)))
    else:
        freq = base * torch.full_like(t, 1300)
    phase = 2 * math.pi * torch.cumsum(freq, 0) / SAMPLE_RATE + uniform(0, 6.28)
    wave = uniform(0.4, 0.9) * torch.sin(phase)
    if label == "stop":
        wave = wave * (t > uniform(0.3, 0.5) * span).logical_not()
    return wave + 0.1 * torch.randn(length, generator=generator)


def log_spectrogram(wave, n_fft=256, hop=128):
    """Power in 32 bands, in logs; 32 x 17 for 2,048 samples."""
    spec = torch.stft(wave, n_fft, hop, window=torch.hann_window(n_fft), return_complex=True).abs().pow(2)
    return torch.log(spec[:128].reshape(32, 4, -1).mean(1) + 1e-4)


def spec_augment(spec, freq_mask=6, time_mask=4):
    """One band of frequencies and one of frames are set to the mean (zero) of the normalized spectrogram."""
    spec = spec.clone()
    f = int(torch.randint(0, freq_mask + 1, ()))
    f0 = int(torch.randint(0, spec.size(0) - f + 1, ()))
    t = int(torch.randint(0, time_mask + 1, ()))
    t0 = int(torch.randint(0, spec.size(1) - t + 1, ()))
    spec[f0 : f0 + f] = 0.0
    spec[:, t0 : t0 + t] = 0.0
    return spec


class KeywordDataset(Dataset):
    def __init__(self, count, seed, augment=False):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.multinomial(SHARES, count, replacement=True, generator=generator).tolist()
        self.specs = torch.stack([log_spectrogram(synthesize(LABELS[label], generator)) for label in self.labels])
        self.augment = augment
        self.mean, self.std = torch.tensor(0.0), torch.tensor(1.0)

    def fit_normalizer(self):
        self.mean, self.std = self.specs.mean(), self.specs.std()
        return self

    def use_normalizer(self, other):
        self.mean, self.std = other.mean, other.std
        return self

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        spec = (self.specs[index] - self.mean) / self.std
        if self.augment:
            spec = spec_augment(spec)
        return spec.unsqueeze(0), self.labels[index]


class KeywordNet(nn.Module):
    def __init__(self, n_classes, width=16):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d((2, 1)),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
        )
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(2 * width * 8, n_classes)

    def forward(self, x):
        x = self.features(x).mean(-1)
        return self.fc(self.dropout(x.flatten(1)))


def make_sampler(labels):
    counts = Counter(labels)
    weights = [1.0 / counts[label] for label in labels]
    return WeightedRandomSampler(weights, num_samples=len(labels), replacement=True)


def train(model, loader, optimizer, scheduler, epoch, log_interval=16):
    model.train()
    for batch_idx, (data, target) in enumerate(loader):
        output = model(data)
        loss = F.cross_entropy(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if batch_idx % log_interval == 0:
            print(f"Train Epoch: {epoch} [{batch_idx * len(data)}/{len(loader.dataset)}]\tLoss: {loss.item():.4f}")


@torch.no_grad()
def test(model, loader, epoch):
    model.eval()
    hits, totals = torch.zeros(len(LABELS)), torch.zeros(len(LABELS))
    for data, target in loader:
        pred = model(data).argmax(dim=-1)
        totals += torch.bincount(target, minlength=len(LABELS))
        hits += torch.bincount(target[pred == target], minlength=len(LABELS))
    recalls = {name: round(float(h / n), 2) for name, h, n in zip(LABELS, hits, totals.clamp(min=1))}
    print(f"Test Epoch: {epoch}\tAccuracy: {int(hits.sum())}/{int(totals.sum())} ({100 * hits.sum() / totals.sum():.1f}%) {recalls}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=4e-3)
    args = parser.parse_args()
    torch.manual_seed(7)
    train_set = KeywordDataset(1000, seed=0, augment=True).fit_normalizer()
    test_set = KeywordDataset(300, seed=1).use_normalizer(train_set)
    train_loader = DataLoader(train_set, args.batch_size, sampler=make_sampler(train_set.labels), drop_last=True)
    test_loader = DataLoader(test_set, 64)
    model = KeywordNet(len(LABELS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-3)
    total_steps = args.epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=args.lr, total_steps=total_steps)
    for epoch in range(1, args.epochs + 1):
        train(model, train_loader, optimizer, scheduler, epoch)
        test(model, test_loader, epoch)


if __name__ == "__main__":
    main()
