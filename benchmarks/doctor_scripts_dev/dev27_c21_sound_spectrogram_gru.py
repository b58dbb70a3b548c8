"""Which instrument plays? Log spectrograms of made tones, a bidirectional GRU over frames, noise augmentation."""
import math
import random

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

RATE, SAMPLES = 4000, 2000
KINDS = ["sine", "saw", "square", "vibrato", "bell"]


def tone(kind, f0, generator):
    t = torch.arange(SAMPLES) / RATE
    phase = 2 * math.pi * torch.rand(1, generator=generator).item()
    w = 2 * math.pi * f0 * t + phase
    if kind == "sine":
        y = torch.sin(w)
    elif kind == "saw":
        y = sum(torch.sin(k * w) / k for k in range(1, 6))
    elif kind == "square":
        y = sum(torch.sin(k * w) / k for k in (1, 3, 5))
    elif kind == "vibrato":
        y = torch.sin(w + 12.0 * torch.sin(2 * math.pi * 5.0 * t))
    else:
        y = torch.exp(-6 * t) * (torch.sin(w) + 0.6 * torch.sin(2.76 * w))
    return y / y.abs().max()


def make_clips(count, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, len(KINDS), (count,), generator=generator)
    clips = torch.empty(count, SAMPLES)
    for i, label in enumerate(labels.tolist()):
        f0 = 150 + 200 * torch.rand(1, generator=generator).item()
        volume = 0.3 + 0.7 * torch.rand(1, generator=generator).item()
        clips[i] = volume * tone(KINDS[label], f0, generator) + 0.05 * torch.randn(SAMPLES, generator=generator)
    return clips, labels


def log_spectrogram(wave, n_fft=128, hop=64):
    spec = torch.stft(wave, n_fft, hop, window=torch.hann_window(n_fft), return_complex=True)
    return torch.log(spec.abs().pow(2) + 1e-3).transpose(-1, -2)


class Clips(Dataset):
    def __init__(self, clips, labels, stats=None, augment=False):
        self.clips, self.labels, self.augment = clips, labels, augment
        if stats is None:
            spec = log_spectrogram(clips)
            stats = spec.mean((0, 1)), spec.std((0, 1))
        self.stats = stats

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, i):
        wave = self.clips[i]
        if self.augment:
            wave = torch.roll(wave, random.randrange(-50, 51)) * random.uniform(0.8, 1.2)
        spec = (log_spectrogram(wave) - self.stats[0]) / self.stats[1]
        return spec, self.labels[i]


class SoundGRU(nn.Module):
    def __init__(self, bins=65, hidden=40, classes=len(KINDS)):
        super().__init__()
        self.project = nn.Sequential(nn.Linear(bins, 48), nn.ReLU())
        self.gru = nn.GRU(48, hidden, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(0.3)
        self.out = nn.Linear(2 * hidden, classes)

    def forward(self, x):
        h, _ = self.gru(self.project(x))
        return self.out(self.drop(h.mean(1)))


def run_epoch(model, loader, criterion, optimizer=None):
    training = optimizer is not None
    model.train(training)
    loss_sum, right, count = 0.0, 0, 0
    with torch.set_grad_enabled(training):
        for spec, label in loader:
            out = model(spec)
            loss = criterion(out, label)
            if training:
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 2.0)
                optimizer.step()
            loss_sum += loss.item() * len(label)
            right += (out.argmax(1) == label).sum().item()
            count += len(label)
    return loss_sum / count, right / count


if __name__ == "__main__":
    random.seed(8)
    torch.manual_seed(8)
    train_set = Clips(*make_clips(1200, seed=100), augment=True)
    valid_set = Clips(*make_clips(250, seed=101), stats=train_set.stats)
    train_loader = DataLoader(train_set, batch_size=25, shuffle=True)
    valid_loader = DataLoader(valid_set, batch_size=125)
    model = SoundGRU()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.NAdam(model.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.93)
    for epoch in range(25):
        train_loss, train_acc = run_epoch(model, train_loader, criterion, optimizer)
        valid_loss, valid_acc = run_epoch(model, valid_loader, criterion)
        scheduler.step()
        print(f"{epoch + 1:2d} train {train_loss:.4f} / {train_acc:.3f}   valid {valid_loss:.4f} / {valid_acc:.3f}")
