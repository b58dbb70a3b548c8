"""Three-lead ECG beats, as a Lightning-style module with its data module."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

LEADS, LENGTH = 3, 96
PRIOR = torch.tensor([0.65, 0.22, 0.13])  # normal, ventricular, supraventricular


def bump(time, center, width):
    return torch.exp(-(((time - center) / width) ** 2))


def synthesize(count, seed):
    """Strips of (LENGTH, LEADS), recorded sample by sample, with a label each."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(PRIOR, count, replacement=True, generator=g)
    time = torch.linspace(0, 1, LENGTH)
    strips = torch.zeros(count, LENGTH, LEADS)
    for i, label in enumerate(labels.tolist()):
        center = 0.45 + 0.1 * float(torch.rand((), generator=g))
        p = 0.3 * bump(time, center - 0.18, 0.03)
        qrs, t = bump(time, center, 0.018), 0.4 * bump(time, center + 0.25, 0.06)
        if label == 1:
            p, qrs, t = 0 * p, 1.1 * bump(time, center, 0.05), -t
        elif label == 2:
            p, t = -0.5 * p, 0.4 * bump(time, center + 0.16, 0.04)
        beat = p + qrs + t
        strips[i] = torch.stack([beat, 0.7 * beat.roll(1), -0.5 * beat.roll(2)], dim=1)
    strips = strips + 0.12 * torch.randn(strips.shape, generator=g)
    return (strips - 0.04) / 0.3, labels


class Beats(Dataset):
    def __init__(self, strips, labels, snr_db=None):
        self.strips, self.labels, self.snr_db = strips, labels, snr_db

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        strip = self.strips[i]
        if self.snr_db is not None:
            rms = strip.pow(2).mean().sqrt()
            strip = strip + rms * 10 ** (-self.snr_db / 20) * torch.randn_like(strip)
        return strip, int(self.labels[i])


def collate(samples):
    strips = torch.stack([strip for strip, _ in samples])
    labels = torch.tensor([label for _, label in samples])
    return strips.permute(0, 2, 1).contiguous(), labels  # (B, leads, time)


class BeatDataModule:
    def __init__(self, batch_size=32, snr_db=20.0):
        self.batch_size = batch_size
        self.train_set = Beats(*synthesize(1200, seed=5), snr_db=snr_db)
        self.val_set = Beats(*synthesize(400, seed=6))

    def train_dataloader(self):
        return DataLoader(self.train_set, self.batch_size, shuffle=True, collate_fn=collate, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, 100, collate_fn=collate)


def block(inputs, outputs):
    conv = nn.Conv1d(inputs, outputs, kernel_size=7, padding=3, bias=False)
    return nn.Sequential(conv, nn.BatchNorm1d(outputs), nn.ReLU(), nn.MaxPool1d(2))


class LitBeatNet(nn.Module):
    def __init__(self, class_weight, lr=2e-3, weight_decay=1e-3):
        super().__init__()
        self.lr, self.weight_decay = lr, weight_decay
        self.features = nn.Sequential(block(LEADS, 16), block(16, 24), block(24, 32))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(32 * (LENGTH // 8), 32), nn.ReLU(), nn.Linear(32, 3))
        self.criterion = nn.CrossEntropyLoss(weight=class_weight)

    def forward(self, x):
        return self.head(self.features(x))

    def training_step(self, batch, criterion):
        x, y = batch
        return criterion(self(x), y)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)


def fit_step(model, batch, optimizer, loss):
    """What the trainer does with one batch."""
    model.train()
    optimizer.zero_grad()
    value = model.training_step(batch, loss)
    value.backward()
    optimizer.step()
    return value.detach()


def setup():
    torch.manual_seed(7)
    data = BeatDataModule()
    counts = torch.bincount(data.train_set.labels, minlength=3).float()
    class_weight = counts.sum() / (3 * counts)
    module = LitBeatNet(class_weight)
    return dict(
        model=module, train=data.train_dataloader(), val=data.val_dataloader(),
        loss=module.criterion, optimizer=module.configure_optimizers(), step=fit_step,
    )
