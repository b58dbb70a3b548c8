"""Keyword spotting: log spectrograms, SpecAugment, mixup and an EMA of the weights."""
import copy
import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

WORDS = {"yes": (300, 700), "no": (700, 300), "up": (250, 250), "down": (800, 800), "stop": (450, 150)}


@dataclass
class Config:
    sample_rate: int = 2000
    n_fft: int = 64
    hop: int = 20
    train_size: int = 1000
    valid_size: int = 300
    batch_size: int = 64
    eval_batch_size: int = 128
    epochs: int = 10
    lr: float = 4e-3
    warmup_steps: int = 15
    weight_decay: float = 0.01
    mixup_alpha: float = 0.2
    masks: tuple = (4, 8)  # bins, frames
    ema_decay: float = 0.97
    seed: int = 0


def record(cfg, count, seed):
    """Each word is a tone that glides from one pitch to another, somewhere in a noisy recording."""
    g = torch.Generator().manual_seed(seed)
    n, length = cfg.sample_rate // 2, int(0.3 * cfg.sample_rate)
    labels = torch.randint(0, len(WORDS), (count,), generator=g)
    waves = 0.15 * torch.randn(count, n, generator=g)
    pitches = torch.tensor(list(WORDS.values()), dtype=torch.float)
    ramp = torch.linspace(0, 1, length)
    for i, label in enumerate(labels.tolist()):
        voice = 0.9 + 0.2 * torch.rand((), generator=g)
        start, stop = pitches[label] * voice
        phase = 2 * math.pi * torch.cumsum(start + (stop - start) * ramp, 0) / cfg.sample_rate
        offset = int(torch.randint(0, n - length + 1, (1,), generator=g))
        waves[i, offset : offset + length] += phase.sin() * torch.hann_window(length)
    return waves, labels


def log_spectrogram(cfg, waves):
    spec = torch.stft(waves, cfg.n_fft, cfg.hop, window=torch.hann_window(cfg.n_fft), return_complex=True).abs()
    return (spec + 1e-3).log()  # (count, 33 bins, 51 frames)


def spec_augment(specs, masks):
    specs = specs.clone()
    for dim, limit in enumerate(masks, start=1):
        size = specs.shape[dim]
        width = int(torch.randint(0, limit + 1, (1,)))
        first = int(torch.randint(0, size - width + 1, (1,)))
        specs.narrow(dim, first, width).zero_()  # zero is the mean
    return specs


class KWSNet(nn.Module):
    def __init__(self, bins, n_classes, width=48):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(bins, width, 5, padding=2), nn.BatchNorm1d(width), nn.SiLU(),
            nn.Conv1d(width, width, 5, stride=2, padding=2), nn.BatchNorm1d(width), nn.SiLU(),
            nn.Conv1d(width, width, 3, padding=1), nn.BatchNorm1d(width), nn.SiLU(),
        )
        self.head = nn.Linear(width, n_classes)

    def forward(self, specs):
        return self.head(self.layers(specs).mean(dim=2))


class ModelEma:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for ema_p, p in zip(self.module.parameters(), model.parameters()):
            ema_p.lerp_(p, 1 - decay)
        for ema_b, b in zip(self.module.buffers(), model.buffers()):
            ema_b.copy_(b)


class Trainer:
    def __init__(self, cfg):
        self.cfg = cfg
        train_x, train_y = record(cfg, cfg.train_size, seed=cfg.seed + 1)
        valid_x, valid_y = record(cfg, cfg.valid_size, seed=cfg.seed + 2)
        train_x, valid_x = log_spectrogram(cfg, train_x), log_spectrogram(cfg, valid_x)
        mean, std = train_x.mean(), train_x.std()
        self.train_set = TensorDataset((train_x - mean) / std, train_y)
        self.valid_set = TensorDataset((valid_x - mean) / std, valid_y)
        self.train_loader = DataLoader(self.train_set, batch_size=cfg.batch_size, shuffle=True, drop_last=True)
        self.valid_loader = DataLoader(self.valid_set, batch_size=cfg.eval_batch_size)
        self.model = KWSNet(train_x.shape[1], len(WORDS))
        self.ema = ModelEma(self.model, cfg.ema_decay)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self.lr_factor)
        self.beta = torch.distributions.Beta(cfg.mixup_alpha, cfg.mixup_alpha)

    def lr_factor(self, step):
        total, warmup = self.cfg.epochs * len(self.train_loader), self.cfg.warmup_steps
        progress = min(1.0, max(0, step - warmup) / (total - warmup))
        return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * progress))

    def mixup(self, x, y):
        lam = float(self.beta.sample())
        perm = torch.randperm(len(x))
        y = F.one_hot(y, len(WORDS)).float()
        x = lam * x + (1 - lam) * x[perm]
        return x, lam * y + (1 - lam) * y[perm]

    def train_step(self, x, y):
        x, y = self.mixup(spec_augment(x, self.cfg.masks), y)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = self.model(x)
        loss = F.cross_entropy(logits.float(), y)
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.ema.update(self.model)
        return loss.item()

    @torch.no_grad()
    def evaluate(self, network):
        network.eval()
        correct, loss = 0, 0.0
        for x, y in self.valid_loader:
            logits = network(x)
            loss += F.cross_entropy(logits, y, reduction="sum").item()
            correct += (logits.argmax(dim=1) == y).sum().item()
        total = len(self.valid_set)
        return loss / total, correct / total

    def fit(self):
        for epoch in range(self.cfg.epochs):
            self.model.train()
            losses = [self.train_step(x, y) for x, y in self.train_loader]
            valid_loss, accuracy = self.evaluate(self.ema.module)
            print(f"epoch {epoch + 1}: loss {sum(losses) / len(losses):.4f} valid {valid_loss:.4f} acc {accuracy:.3f}")


def main():
    torch.manual_seed(Config.seed)
    Trainer(Config()).fit()


if __name__ == "__main__":
    main()
