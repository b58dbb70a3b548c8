"""Sounds of five kinds, log spectrograms, SpecAugment and a small CNN, in a class of its own for training."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

CLASSES = ["rising", "falling", "low then high", "tremolo", "clicks"]


def make_sounds(count, rate=2000, seconds=1.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    samples = int(rate * seconds)
    t = torch.arange(samples) / rate
    labels = torch.randint(0, len(CLASSES), (count,), generator=g)
    sounds = torch.empty(count, samples)
    for i, label in enumerate(labels.tolist()):
        u = torch.rand(4, generator=g).tolist()
        low, high = 120 + 150 * u[0], 500 + 250 * u[1]
        if label == 0:
            wave = torch.sin(2 * math.pi * (low * t + (high - low) * t**2 / 2))
        elif label == 1:
            wave = torch.sin(2 * math.pi * (high * t - (high - low) * t**2 / 2))
        elif label == 2:
            change = 0.3 + 0.4 * u[2]
            wave = torch.where(t < change, torch.sin(2 * math.pi * low * t), torch.sin(2 * math.pi * high * t))
        elif label == 3:
            wave = torch.sin(2 * math.pi * (low + high) / 2 * t) * (0.5 + 0.5 * torch.sin(2 * math.pi * (5 + 4 * u[2]) * t))
        else:
            phase = (t * (6 + 5 * u[2]) + u[3]) % 1.0
            wave = torch.exp(-40 * phase) * torch.randn(samples, generator=g)
        sounds[i] = (0.5 + 0.5 * torch.rand((), generator=g)) * wave
    return sounds + 0.15 * torch.randn(sounds.shape, generator=g), labels


class LogSpectrogram(nn.Module):
    def __init__(self, n_fft=64, hop=32):
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", torch.hann_window(n_fft))

    def forward(self, x):
        spec = torch.stft(x, self.n_fft, self.hop, window=self.window, return_complex=True)
        return torch.log(spec.abs().pow(2) + 1e-3).unsqueeze(1)


class SpecAugment(nn.Module):
    """Bands of frequency and of time are replaced by the mean, in training only."""

    def __init__(self, freq=5, time=8):
        super().__init__()
        self.freq, self.time = freq, time

    def forward(self, x):
        if not self.training:
            return x
        x = x.clone()
        fills = x.detach().mean(dim=(1, 2, 3))
        for i, fill in enumerate(fills):
            f, w = int(torch.randint(0, x.shape[2] - self.freq, ())), int(torch.randint(0, self.freq + 1, ()))
            x[i, :, f : f + w] = fill
            s, w = int(torch.randint(0, x.shape[3] - self.time, ())), int(torch.randint(0, self.time + 1, ()))
            x[i, :, :, s : s + w] = fill
        return x


class SoundNet(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.front = nn.Sequential(LogSpectrogram(), nn.BatchNorm2d(1), SpecAugment())
        self.body = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(24, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.AdaptiveAvgPool2d((4, 4)), nn.Flatten(), nn.Dropout(0.2),
        )
        self.head = nn.Linear(32 * 16, classes)

    def forward(self, x):
        return self.head(self.body(self.front(x)))


class Trainer:
    def __init__(self, model, train_loader, valid_loader, lr, epochs):
        self.model, self.train_loader, self.valid_loader, self.epochs = model, train_loader, valid_loader, epochs
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=3 * lr, total_steps=epochs * len(train_loader)
        )

    def train_epoch(self):
        self.model.train()
        total = 0.0
        for sounds, labels in self.train_loader:
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(sounds), labels)
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            total += loss.item()
        return total / len(self.train_loader)

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        hits = torch.zeros(len(CLASSES))
        seen = torch.zeros(len(CLASSES))
        for sounds, labels in self.valid_loader:
            right = (self.model(sounds).argmax(dim=1) == labels).float()
            hits.index_add_(0, labels, right)
            seen.index_add_(0, labels, torch.ones_like(right))
        return (hits.sum() / seen.sum()).item(), hits / seen.clamp(min=1)

    def run(self):
        for epoch in range(1, self.epochs + 1):
            loss = self.train_epoch()
            accuracy, each = self.validate()
            print(f"epoch {epoch}: loss {loss:.3f} accuracy {accuracy:.3f} by class {[round(v, 2) for v in each.tolist()]}")


if __name__ == "__main__":
    torch.manual_seed(99)
    torch.set_num_threads(1)
    train_loader = DataLoader(TensorDataset(*make_sounds(800, seed=1)), batch_size=20, shuffle=True)
    valid_loader = DataLoader(TensorDataset(*make_sounds(200, seed=2)), batch_size=50)
    Trainer(SoundNet(len(CLASSES)), train_loader, valid_loader, lr=1e-3, epochs=15).run()
