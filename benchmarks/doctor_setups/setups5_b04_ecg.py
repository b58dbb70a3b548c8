"""Rhythm classification on 4-lead ECG-like strips (1-d ResNet, mixup, weighted CE, EMA for evaluation)."""

import copy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

cfg = {
    "data": {"leads": 4, "length": 128, "n_train": 1200, "n_val": 300, "prior": [0.5, 0.22, 0.16, 0.12]},
    "model": {"width": 24, "num_classes": 4},
    "optim": {"lr": 2e-3, "weight_decay": 1e-3, "batch_size": 48},
    "mixup_alpha": 0.2,
    "ema_decay": 0.95,
}
GAINS = np.array([1.0, -0.6, 0.8, 0.4])


def synthesize(n, seed):
    """Returns strips (n, time, leads) and rhythms: 0 sinus, 1 tachycardia, 2 irregular, 3 wide complexes."""
    rng = np.random.default_rng(seed)
    length, leads = cfg["data"]["length"], cfg["data"]["leads"]
    rhythm = rng.choice(4, size=n, p=cfg["data"]["prior"])
    t = np.arange(length)
    strips = np.zeros((n, length, leads))
    for i, r in enumerate(rhythm):
        beat, trace = rng.uniform(0, 16), np.zeros(length)
        width = 5.0 if r == 3 else 1.5
        while beat < length:
            trace += np.exp(-0.5 * ((t - beat) / width) ** 2)
            period = 15 if r == 1 else 32
            beat += rng.uniform(12, 52) if r == 2 else period + rng.normal(0, 1)
        strips[i] = trace[:, None] * GAINS + 0.12 * rng.standard_normal((length, leads))
    return strips, rhythm


def build_dataset(n, seed):
    strips, rhythm = synthesize(n, seed)
    x = torch.from_numpy(strips).float()
    x = x.permute(0, 2, 1).contiguous()  # Conv1d wants (N, leads, time)
    x = (x - x.mean(dim=(1, 2), keepdim=True)) / x.std(dim=(1, 2), keepdim=True)
    return TensorDataset(x, torch.from_numpy(rhythm).long())


class ResBlock1d(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv1 = nn.Conv1d(cin, cout, 7, stride, padding=3, bias=False)
        self.bn1 = nn.BatchNorm1d(cout)
        self.conv2 = nn.Conv1d(cout, cout, 7, padding=3, bias=False)
        self.bn2 = nn.BatchNorm1d(cout)
        self.skip = nn.Conv1d(cin, cout, 1, stride, bias=False)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.skip(x))


def build_backbone(leads, width, num_classes):
    return nn.Sequential(
        nn.Conv1d(leads, width, 7, padding=3, bias=False), nn.BatchNorm1d(width), nn.ReLU(),
        ResBlock1d(width, width, 2), ResBlock1d(width, 2 * width, 2), ResBlock1d(2 * width, 2 * width, 2),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(2 * width, num_classes),
    )


class EMAClassifier(nn.Module):
    """Trains `net`; in evaluation mode answers with its exponential moving average."""

    def __init__(self, net, decay):
        super().__init__()
        self.net, self.decay = net, decay
        self.shadow = copy.deepcopy(net).requires_grad_(False)

    def forward(self, x):
        return self.net(x) if self.training else self.shadow(x)

    @torch.no_grad()
    def update(self):
        for s, p in zip(self.shadow.parameters(), self.net.parameters()):
            s.mul_(self.decay).add_(p, alpha=1 - self.decay)
        for s, b in zip(self.shadow.buffers(), self.net.buffers()):
            s.copy_(b)


def train_step(model, batch, optimizer, criterion):
    model.train()
    x, y = batch
    lam = float(np.random.beta(cfg["mixup_alpha"], cfg["mixup_alpha"]))
    index = torch.randperm(x.size(0))
    mixed = lam * x + (1 - lam) * x[index]
    logits = model(mixed)
    loss = lam * criterion(logits, y) + (1 - lam) * criterion(logits, y[index])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    model.update()
    return loss


def setup():
    torch.manual_seed(7)
    np.random.seed(7)
    train_set, val_set = build_dataset(cfg["data"]["n_train"], 0), build_dataset(cfg["data"]["n_val"], 1)
    train = DataLoader(train_set, cfg["optim"]["batch_size"], shuffle=True, drop_last=True)
    val = DataLoader(val_set, 100)

    counts = torch.bincount(train_set.tensors[1], minlength=4).float()
    weights = (counts.sum() / (4 * counts)).sqrt()
    model = EMAClassifier(build_backbone(cfg["data"]["leads"], **cfg["model"]), cfg["ema_decay"])
    optimizer = torch.optim.AdamW(model.net.parameters(), lr=cfg["optim"]["lr"], weight_decay=cfg["optim"]["weight_decay"])
    return dict(model=model, train=train, val=val, loss=nn.CrossEntropyLoss(weight=weights), optimizer=optimizer, step=train_step)
