"""Which instrument plays? Made-up tones, log-mel spectrograms, SpecAugment and a convolutional network."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

SAMPLE_RATE, LENGTH = 8000, 4096
N_FFT, HOP, N_MELS = 256, 128, 40
INSTRUMENTS = ["flute", "clarinet", "violin", "bell", "drum"]


def make_tone(kind, generator):
    def uniform(low, high):
        return low + (high - low) * float(torch.rand((), generator=generator))

    t = torch.arange(LENGTH) / SAMPLE_RATE
    pitch = uniform(200, 500)
    if kind == "flute":
        wave = torch.sin(2 * math.pi * pitch * t) + 0.1 * torch.sin(4 * math.pi * pitch * t)
    elif kind == "clarinet":
        wave = sum(torch.sin(2 * math.pi * k * pitch * t) / k for k in (1, 3, 5, 7))
    elif kind == "violin":
        phase = 2 * math.pi * pitch * t + 0.8 * torch.sin(2 * math.pi * 6 * t)
        wave = sum(torch.sin(k * phase) / k for k in range(1, 8))
    elif kind == "bell":
        wave = sum(torch.sin(2 * math.pi * r * pitch * t) * torch.exp(-r * 3 * t) for r in (1, 2.76, 5.4))
    else:
        wave = torch.randn(LENGTH, generator=generator) * torch.exp(-uniform(8, 14) * t)
    wave = wave / wave.abs().max() * uniform(0.3, 1.0)
    return wave + 0.02 * torch.randn(LENGTH, generator=generator)


def make_data(count, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, len(INSTRUMENTS), (count,), generator=generator)
    return torch.stack([make_tone(INSTRUMENTS[i], generator) for i in labels.tolist()]), labels


def mel_filters():
    def to_mel(f):
        return 2595 * math.log10(1 + f / 700)

    mels = torch.linspace(to_mel(40), to_mel(SAMPLE_RATE / 2), N_MELS + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    frequencies = torch.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0)


def log_mel(waves):
    spectrum = torch.stft(waves, N_FFT, HOP, window=torch.hann_window(N_FFT), return_complex=True).abs() ** 2
    return torch.log(mel_filters() @ spectrum + 1e-4).unsqueeze(1)


def spec_augment(batch, max_mels=6, max_frames=5):
    """Sets a band of mels and a span of time of each spectrogram to the mean, which is zero."""
    batch = batch.clone()
    n, _, mels, frames = batch.shape
    for size, widest, axis in ((mels, max_mels, 2), (frames, max_frames, 3)):
        width = torch.randint(0, widest + 1, (n, 1))
        start = (torch.rand(n, 1) * (size - width)).long()
        position = torch.arange(size)
        masked = (position >= start) & (position < start + width)
        shape = (n, 1, size, 1) if axis == 2 else (n, 1, 1, size)
        batch.masked_fill_(masked.view(shape), 0.0)
    return batch


class SoundNet(nn.Module):
    def __init__(self, classes=len(INSTRUMENTS)):
        super().__init__()
        self.blocks = nn.Sequential(*[self.block(a, b) for a, b in ((1, 16), (16, 32), (32, 48))])
        self.dropout = nn.Dropout(0.2)
        self.out = nn.Linear(2 * 48, classes)

    @staticmethod
    def block(inputs, outputs):
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)
        )

    def forward(self, x):
        x = self.blocks(x)
        pooled = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)
        return self.out(self.dropout(pooled))


def run_epoch(model, spectrograms, labels, batch_size, optimizer=None, augment=None):
    training = optimizer is not None
    model.train(training)
    order = torch.randperm(len(labels)) if training else torch.arange(len(labels))
    total_loss, total_right = 0.0, 0
    with torch.set_grad_enabled(training):
        for index in order.split(batch_size):
            x, y = spectrograms[index], labels[index]
            logits = model(augment(x) if augment else x)
            loss = F.cross_entropy(logits, y)
            if training:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            total_loss += loss.item() * len(index)
            total_right += (logits.argmax(1) == y).sum().item()
    return total_loss / len(labels), total_right / len(labels)


def main():
    torch.manual_seed(6)
    (train_waves, train_labels), (valid_waves, valid_labels) = make_data(1300, 60), make_data(300, 61)
    train_x, valid_x = log_mel(train_waves), log_mel(valid_waves)
    # statistics per mel band, of the training recordings
    mean, std = train_x.mean(dim=(0, 1, 3), keepdim=True), train_x.std(dim=(0, 1, 3), keepdim=True)
    train_x, valid_x = (train_x - mean) / std, (valid_x - mean) / std
    print("spectrograms:", tuple(train_x.shape[1:]), "training:", len(train_x), "validation:", len(valid_x))

    model = SoundNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    for epoch in range(16):
        train_loss, train_acc = run_epoch(model, train_x, train_labels, 32, optimizer, spec_augment)
        valid_loss, valid_acc = run_epoch(model, valid_x, valid_labels, 100)
        scheduler.step()
        print(
            f"epoch {epoch + 1:2d}: train loss {train_loss:.4f} acc {train_acc:.3f} | "
            f"valid loss {valid_loss:.4f} acc {valid_acc:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
