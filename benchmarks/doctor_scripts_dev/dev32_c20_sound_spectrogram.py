"""Which instrument plays? Made tones, log spectrograms, SpecAugment, a small CNN."""

import math

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

RATE, LENGTH = 8000, 2048
# strengths of harmonics, length of the attack and speed of decay
INSTRUMENTS = {
    "flute": ([1.0, 0.2, 0.05], 0.05, 1.0),
    "clarinet": ([1.0, 0.0, 0.7, 0.0, 0.5], 0.02, 1.0),
    "violin": ([1.0, 0.8, 0.7, 0.6, 0.5, 0.4], 0.06, 0.5),
    "piano": ([1.0, 0.6, 0.3, 0.1], 0.003, 12.0),
    "bell": ([1.0, 0.0, 0.0, 0.9, 0.0, 0.0, 0.6], 0.002, 5.0),
}


def record(count, seed):
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(LENGTH) / RATE
    labels = torch.randint(0, len(INSTRUMENTS), (count,), generator=generator)
    sounds = torch.zeros(count, LENGTH)
    for i, label in enumerate(labels.tolist()):
        harmonics, attack, decay = list(INSTRUMENTS.values())[label]
        pitch = 180 * 2 ** float(torch.rand((), generator=generator))
        for number, strength in enumerate(harmonics, 1):
            phase = 2 * math.pi * torch.rand((), generator=generator)
            strength = strength * (0.8 + 0.4 * torch.rand((), generator=generator))
            sounds[i] += strength * torch.sin(2 * math.pi * pitch * number * time + phase)
        sounds[i] *= (time / attack).clamp(max=1) * torch.exp(-decay * time)
        sounds[i] *= 0.3 + 0.4 * torch.rand((), generator=generator)
    return sounds + 0.02 * torch.randn(sounds.shape, generator=generator), labels


def spectrogram(sounds, n_fft=256, hop=128):
    power = torch.stft(sounds, n_fft, hop, window=torch.hann_window(n_fft), return_complex=True).abs().pow(2)
    return torch.log(power[:, :96] + 1e-4).unsqueeze(1)


def spec_augment(batch, max_bins=8, max_frames=3):
    """Masks one band and one span of each sample with the mean, which is 0."""
    batch = batch.clone()
    for sample in batch:
        width, span = int(torch.randint(0, max_bins + 1, ())), int(torch.randint(0, max_frames + 1, ()))
        low, begin = int(torch.randint(0, 96 - width, ())), int(torch.randint(0, sample.shape[2] - span, ()))
        sample[:, low : low + width] = 0
        sample[:, :, begin : begin + span] = 0
    return batch


class SoundNet(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 12, 5, stride=(2, 1), padding=2), nn.BatchNorm2d(12), nn.ReLU(),
            nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.BatchNorm2d(24), nn.ReLU(),
            nn.Conv2d(24, 48, 3, stride=2, padding=1), nn.BatchNorm2d(48), nn.ReLU(),
            nn.AdaptiveAvgPool2d((6, 1)), nn.Flatten(), nn.Dropout(0.2), nn.Linear(48 * 6, classes),
        )  # fmt: skip

    def forward(self, x):
        return self.body(x)


def main():
    torch.manual_seed(0)
    (train_x, train_y), (val_x, val_y) = record(1200, seed=0), record(300, seed=1)
    train_x, val_x = spectrogram(train_x), spectrogram(val_x)
    mean, std = train_x.mean(), train_x.std()
    train_loader = DataLoader(TensorDataset((train_x - mean) / std, train_y), 32, shuffle=True, drop_last=True)
    val_loader = DataLoader(TensorDataset((val_x - mean) / std, val_y), 150)
    model, criterion = SoundNet(len(INSTRUMENTS)), nn.CrossEntropyLoss(label_smoothing=0.05)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5, gamma=0.5)
    for epoch in range(15):
        model.train()
        total = 0.0
        for x, y in train_loader:
            loss = criterion(model(spec_augment(x)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        scheduler.step()
        model.eval()
        with torch.no_grad():
            right = sum(int((model(x).argmax(1) == y).sum()) for x, y in val_loader)
        print(f"epoch {epoch:2d} loss {total / len(train_loader):.4f} accuracy {right / len(val_y):.3f}")


if __name__ == "__main__":
    main()
