"""Digit embeddings with a contrastive loss over the pairs of a batch of two views (research code, config dict)."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Sampler

from toydata import Digits

cfg = {
    "seed": 3,
    "data": {"num_classes": 10, "classes_per_batch": 8, "samples_per_class": 4, "mean": 0.16, "std": 0.28},
    "model": {"widths": [16, 32, 64], "embed_dim": 32, "activation": "relu"},
    "loss": {"margin": 1.0},
    "aug": {"max_shift": 1, "noise": 0.1},
    "optim": {"lr": 2e-3, "weight_decay": 1e-4},
}

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


def get_activation(name):
    return ACTIVATIONS.get(name, nn.Identity)()


class Encoder(nn.Module):
    def __init__(self, widths, embed_dim, activation):
        super().__init__()
        layers, c_in = [], 1
        for i, c_out in enumerate(widths):
            layers += [
                nn.Conv2d(c_in, c_out, 3, stride=1 if i == 0 else 2, padding=1, bias=False),
                nn.BatchNorm2d(c_out),
                get_activation(activation),
            ]
            c_in = c_out
        self.trunk = nn.Sequential(*layers)
        self.proj = nn.Sequential(
            nn.Flatten(),
            nn.Linear(c_in * 4 * 4, 64),
            get_activation(activation),
            nn.Linear(64, embed_dim),
        )

    def forward(self, x):
        return F.normalize(self.proj(self.trunk(x)), dim=-1)


class ContrastiveLoss(nn.Module):
    """Hadsell et al., 2006, over all pairs of the batch; both kinds of pairs weigh the same."""

    def __init__(self, margin):
        super().__init__()
        self.margin = margin

    def forward(self, z, labels):
        i, j = torch.triu_indices(len(z), len(z), offset=1)
        d2 = (z[i] - z[j]).pow(2).sum(-1)
        d = (d2 + 1e-8).sqrt()
        y = (labels[i] == labels[j]).float()
        attract = (y * d2).sum() / y.sum().clamp_min(1)
        repel = ((1 - y) * F.relu(self.margin - d).pow(2)).sum() / (1 - y).sum().clamp_min(1)
        return attract + repel


class PKSampler(Sampler):
    """Batches of P classes with K images each."""

    def __init__(self, targets, num_classes, p, k):
        self.targets, self.p, self.k = targets, p, k
        self.classes = torch.arange(num_classes)
        self.pools = {int(c): torch.where(targets == c)[0] for c in self.classes}

    def __len__(self):
        return len(self.targets) // (self.p * self.k)

    def __iter__(self):
        for _ in range(len(self)):
            chosen = self.classes[torch.randperm(len(self.classes))[: self.p]]
            batch = []
            for c in chosen.tolist():
                pool = self.pools[c]
                batch += pool[torch.randperm(len(pool))[: self.k]].tolist()
            yield batch


def random_view(x, max_shift, noise):
    dy, dx = torch.randint(-max_shift, max_shift + 1, (2,)).tolist()
    return torch.roll(x, (dy, dx), dims=(-2, -1)) + noise * torch.randn_like(x)


def train_step(model, batch, optimizer, loss):
    images, labels = batch
    views = torch.cat([random_view(images, **cfg["aug"]), random_view(images, **cfg["aug"])])
    value = loss(model(views), torch.cat([labels, labels]))
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value


def setup():
    torch.manual_seed(cfg["seed"])
    d = cfg["data"]
    transform = lambda img: (img.float() / 255 - d["mean"]) / d["std"]
    train_set, val_set = Digits(True, transform=transform), Digits(False, transform=transform)
    sampler = PKSampler(train_set.targets, d["num_classes"], d["classes_per_batch"], d["samples_per_class"])
    train = DataLoader(train_set, batch_sampler=sampler)
    val = DataLoader(val_set, batch_size=60)
    model = Encoder(**cfg["model"])
    optimizer = torch.optim.AdamW(model.parameters(), **cfg["optim"])
    return dict(model=model, train=train, val=val, loss=ContrastiveLoss(**cfg["loss"]), optimizer=optimizer, step=train_step)
