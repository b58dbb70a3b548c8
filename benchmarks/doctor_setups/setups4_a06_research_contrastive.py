"""Contrastive embeddings of digits (Hadsell et al. 2006, all pairs of a P x K batch). Research code, one config."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Sampler, TensorDataset

from toydata import draw_digits

cfg = {
    "seed": 11,
    "data": {"n_train": 1200, "n_val": 300, "mean": 0.19, "std": 0.30},
    "sampler": {"classes_per_batch": 8, "samples_per_class": 5},
    "model": {"channels": (16, 32, 64), "embed_dim": 16},
    "loss": {"margin": 1.0},
    "aug": {"max_shift": 1, "noise": 0.1},
    "optim": {"lr": 2e-3, "weight_decay": 5e-4},
}


class PKSampler(Sampler):
    """Batches of P classes with K samples each; another draw in each epoch."""

    def __init__(self, labels, classes_per_batch, samples_per_class, seed):
        self.labels, self.p, self.k, self.seed = labels, classes_per_batch, samples_per_class, seed
        self.classes = labels.unique()
        self.epoch = 0

    def __len__(self):
        return len(self.labels) // (self.p * self.k)

    def __iter__(self):
        g = torch.Generator().manual_seed(self.seed + self.epoch)
        self.epoch += 1
        for _ in range(len(self)):
            batch = []
            for c in self.classes[torch.randperm(len(self.classes), generator=g)[: self.p]]:
                members = torch.nonzero(self.labels == c).flatten()
                batch += members[torch.randperm(len(members), generator=g)[: self.k]].tolist()
            yield batch


class Encoder(nn.Module):
    def __init__(self, channels, embed_dim):
        super().__init__()
        layers, cin = [], 1
        for cout in channels:
            layers += [nn.Conv2d(cin, cout, 3, padding=1), nn.BatchNorm2d(cout), nn.ReLU(), nn.MaxPool2d(2)]
            cin = cout
        self.backbone = nn.Sequential(*layers, nn.Flatten())
        self.projection = nn.Linear(cin * 2 * 2, embed_dim)

    def forward(self, x):
        return F.normalize(self.projection(self.backbone(x)), dim=1)


class ContrastiveLoss(nn.Module):
    def __init__(self, margin):
        super().__init__()
        self.margin = margin

    def forward(self, z, labels):
        i, j = torch.triu_indices(len(z), len(z), offset=1)
        dist = ((z[i] - z[j]).pow(2).sum(1) + 1e-8).sqrt()
        same = (labels[i] == labels[j]).float()
        diff = 1 - same
        attract = (same * dist.pow(2)).sum() / same.sum().clamp_min(1)
        repel = (diff * F.relu(self.margin - dist).pow(2)).sum() / diff.sum().clamp_min(1e-6)
        return attract + repel


def augment(x, max_shift, noise):
    dy, dx = torch.randint(-max_shift, max_shift + 1, (2,)).tolist()
    return torch.roll(x, (dy, dx), dims=(2, 3)) + noise * torch.randn_like(x)


def train_step(model, batch, optimizer, criterion):
    x, y = batch
    z = torch.cat([model(augment(x, **cfg["aug"])), model(augment(x, **cfg["aug"]))])
    loss = criterion(z, torch.cat([y, y]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def prepare(count, seed):
    images, labels = draw_digits(count, seed=seed)
    return (images.float() / 255 - cfg["data"]["mean"]) / cfg["data"]["std"], labels


def setup():
    torch.manual_seed(cfg["seed"])
    train_x, train_y = prepare(cfg["data"]["n_train"], seed=0)
    val_x, val_y = prepare(cfg["data"]["n_val"], seed=1)
    sampler = PKSampler(train_y, **cfg["sampler"], seed=cfg["seed"])
    train = DataLoader(TensorDataset(train_x, train_y), batch_sampler=sampler)
    val = DataLoader(TensorDataset(val_x, val_y), batch_size=100)
    model = Encoder(**cfg["model"])
    optimizer = torch.optim.Adam(model.parameters(), **cfg["optim"])
    return dict(model=model, train=train, val=val, loss=ContrastiveLoss(**cfg["loss"]), optimizer=optimizer,
                step=train_step)
