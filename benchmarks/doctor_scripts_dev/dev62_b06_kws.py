"""Keyword spotting on synthetic utterances: log spectrogram, SpecAugment, 1-D convolutions, bf16 autocast, EMA."""

import copy
import math
from collections import Counter

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

KEYWORDS = ["up", "down", "go", "stop", "yes"]
SAMPLE_RATE = 4000

hparams = {
    "n_fft": 128, "hop": 64, "channels": 32,
    "batch_size": 24, "accum_steps": 2, "epochs": 9,
    "max_lr": 4e-3,
    "weight_decay": 1e-2,
    "ema_decay": 0.97,
    "spec_augment": (8, 4),
}

def synthesize(keyword, generator):
    length = int(torch.randint(1600, 2400, (1,), generator=generator))
    pitch = float(torch.empty(1).uniform_(0.85, 1.15, generator=generator))
    place = torch.linspace(0, 1, length)
    track = {
        "up": 400 + 800 * place,
        "down": 1200 - 800 * place,
        "go": torch.full((length,), 800.0),
        "stop": torch.where(place < 0.5, 500.0, 1100.0),
        "yes": 800 + 300 * torch.sin(2 * math.pi * 3 * place),
    }[keyword]
    phase = 2 * math.pi * torch.cumsum(pitch * track / SAMPLE_RATE, dim=0)
    return torch.sin(phase) + 0.2 * torch.randn(length, generator=generator)

class Utterances(Dataset):
    def __init__(self, count, frequencies, seed):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.multinomial(torch.tensor(frequencies), count, True, generator=generator).tolist()
        self.waves = [synthesize(KEYWORDS[label], generator) for label in self.labels]

    def __len__(self):
        return len(self.waves)

    def __getitem__(self, index):
        return self.waves[index], self.labels[index]

def collate(batch):
    batch = sorted(batch, key=lambda item: len(item[0]), reverse=True)
    waves = [wave for wave, _ in batch]
    labels = torch.tensor([label for _, label in batch])
    lengths = torch.tensor([len(wave) for wave in waves])
    return pad_sequence(waves, batch_first=True), lengths, labels

class LogSpectrogram(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("window", torch.hann_window(hparams["n_fft"]))

    def forward(self, waves, lengths):
        spec = torch.stft(waves, hparams["n_fft"], hparams["hop"], window=self.window, return_complex=True)
        feats = torch.log(spec.abs() ** 2 + 1e-2)
        frames = lengths // hparams["hop"] + 1
        mask = (torch.arange(feats.shape[2])[None] < frames[:, None]).float()[:, None]
        count = mask.sum(dim=(1, 2), keepdim=True) * feats.shape[1]
        mean = (feats * mask).sum(dim=(1, 2), keepdim=True) / count
        var = ((feats - mean) ** 2 * mask).sum(dim=(1, 2), keepdim=True) / count
        return (feats - mean) / (var + 1e-5).sqrt() * mask, mask

def spec_augment(feats):
    for axis, widest in zip((1, 2), hparams["spec_augment"]):
        shape = (feats.shape[0], 1)
        width, start = torch.randint(0, widest + 1, shape), torch.randint(0, feats.shape[axis] - widest, shape)
        place = torch.arange(feats.shape[axis])[None]
        hidden = (place >= start) & (place < start + width)
        feats = feats.masked_fill(hidden.unsqueeze(3 - axis), 0.0)
    return feats

class Norm(nn.GroupNorm):
    """Group norm, computed in float32 whatever autocast does around it."""

    def forward(self, x):
        out = F.group_norm(x.float(), self.num_groups, self.weight.float(), self.bias.float(), self.eps)
        return out.to(x.dtype)

class KeywordNet(nn.Module):
    def __init__(self, n_mels, channels, n_classes):
        super().__init__()
        self.stem = nn.Conv1d(n_mels, channels, 5, padding=2)
        self.norm1 = Norm(4, channels)
        self.conv = nn.Conv1d(channels, channels, 5, padding=4, dilation=2)
        self.norm2 = Norm(4, channels)
        self.head = nn.Linear(channels, n_classes)

    def forward(self, feats, mask):
        x = F.relu(self.norm1(self.stem(feats)))
        x = F.relu(self.norm2(self.conv(x * mask)))
        pooled = (x * mask).sum(dim=2) / mask.sum(dim=2)
        return self.head(pooled)

class EMA:
    def __init__(self, model, decay):
        self.decay = decay
        self.module = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for average, value in zip(self.module.parameters(), model.parameters()):
            average.mul_(self.decay).add_(value, alpha=1 - self.decay)

@torch.no_grad()
def unweighted_recall(model, frontend, loader):
    hits, counts = torch.zeros(len(KEYWORDS)), torch.zeros(len(KEYWORDS))
    for waves, lengths, labels in loader:
        feats, mask = frontend(waves, lengths)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            predicted = model(feats, mask).argmax(dim=1)
        counts += torch.bincount(labels, minlength=len(KEYWORDS))
        hits += torch.bincount(labels[predicted == labels], minlength=len(KEYWORDS))
    return (hits / counts).mean().item()

def main():
    torch.manual_seed(11)
    frequencies = [0.35, 0.3, 0.18, 0.12, 0.05]
    train_set, dev_set = Utterances(1200, frequencies, seed=0), Utterances(300, [0.2] * 5, seed=1)
    counts = Counter(train_set.labels)
    weights = [1.0 / counts[label] for label in train_set.labels]
    sampler = WeightedRandomSampler(weights, num_samples=len(train_set), replacement=True)
    train_loader = DataLoader(train_set, hparams["batch_size"], sampler=sampler, collate_fn=collate, drop_last=True)
    dev_loader = DataLoader(dev_set, 50, collate_fn=collate)

    frontend = LogSpectrogram()
    model = KeywordNet(hparams["n_fft"] // 2 + 1, hparams["channels"], len(KEYWORDS)).to("cpu")
    ema = EMA(model, hparams["ema_decay"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=hparams["max_lr"], weight_decay=hparams["weight_decay"])
    updates = hparams["epochs"] * (len(train_loader) // hparams["accum_steps"])
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, hparams["max_lr"], total_steps=updates)
    for epoch in range(hparams["epochs"]):
        total = 0.0
        for i, (waves, lengths, labels) in enumerate(train_loader):
            feats, mask = frontend(waves, lengths)
            feats = spec_augment(feats)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(feats, mask)
            loss = F.cross_entropy(logits.float(), labels) / hparams["accum_steps"]
            loss.backward()
            total += loss.item() * hparams["accum_steps"]
            if (i + 1) % hparams["accum_steps"] == 0:
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
                ema.update(model)
        recall = unweighted_recall(ema.module, frontend, dev_loader)
        print(f"epoch {epoch}: loss {total / len(train_loader):.3f}, dev UAR {recall:.3f}")

if __name__ == "__main__":
    main()
