"""Metric learning: batch-all triplets, P classes x K samples in each batch, retrieval as the metric."""
import random
from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.utils.data import DataLoader, Sampler

from toydata import Digits


class PKSampler(Sampler):
    """Batches of P classes with K samples each; over an epoch each class is gone through in a new order."""

    def __init__(self, labels, p, k, batches, seed=0):
        self.by_class = defaultdict(list)
        for index, label in enumerate(labels):
            self.by_class[int(label)].append(index)
        self.p, self.k, self.batches = p, k, batches
        self.rng = random.Random(seed)

    def __len__(self):
        return self.batches

    def __iter__(self):
        queues = {label: [] for label in self.by_class}
        for _ in range(self.batches):
            batch = []
            for label in self.rng.sample(sorted(self.by_class), self.p):
                if len(queues[label]) < self.k:
                    queues[label] = self.rng.sample(self.by_class[label], len(self.by_class[label]))
                batch += [queues[label].pop() for _ in range(self.k)]
            yield batch


class Embedder(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1), nn.GroupNorm(4, 24), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1), nn.GroupNorm(4, 48), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(48, 64, 3, padding=1), nn.GroupNorm(4, 64), nn.ReLU(),
        )
        self.project = nn.Linear(64 * 16, dim)

    def forward(self, x):
        return F.normalize(self.project(self.trunk(x).flatten(1)), dim=1)


def batch_all_triplets(embeddings, labels, margin):
    """Mean over the triplets that still cost something."""
    distances = 2 - 2 * embeddings @ embeddings.t()
    same = labels[:, None] == labels[None, :]
    positive = same & ~torch.eye(len(labels), dtype=torch.bool)
    costs = distances[:, :, None] - distances[:, None, :] + margin
    valid = positive[:, :, None] & ~same[:, None, :]
    costs = F.relu(costs[valid])
    active = (costs > 0).sum()
    return costs.sum() / active.clamp(min=1), active.item() / max(1, costs.numel())


class MetricTrainer:
    def __init__(self, model, train_set, valid_set, lr=1e-3, margin=0.3, epochs=20):
        self.model, self.margin, self.epochs = model, margin, epochs
        sampler = PKSampler(train_set.targets, p=8, k=6, batches=25)
        self.train_loader = DataLoader(train_set, batch_sampler=sampler)
        self.gallery_loader = DataLoader(train_set, batch_size=256)
        self.query_loader = DataLoader(valid_set, batch_size=256)
        self.optimizer = optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-3)
        self.scheduler = optim.lr_scheduler.CosineAnnealingLR(self.optimizer, epochs, eta_min=lr / 20)

    def fit(self):
        for epoch in range(1, self.epochs + 1):
            loss, active = self.train_epoch()
            r1, knn = self.validate()
            self.scheduler.step()
            print(f"[{epoch:02d}/{self.epochs}] loss {loss:.4f} active {active:.3f} | R@1 {r1:.3f} 5-nn {knn:.3f}")

    def train_epoch(self):
        self.model.train()
        losses, shares = [], []
        for x, y in self.train_loader:
            loss, share = batch_all_triplets(self.model(x), y, self.margin)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
            self.optimizer.step()
            losses.append(loss.item())
            shares.append(share)
        return sum(losses) / len(losses), sum(shares) / len(shares)

    @torch.no_grad()
    def embed(self, loader):
        self.model.eval()
        pairs = [(self.model(x), y) for x, y in loader]
        return torch.cat([e for e, _ in pairs]), torch.cat([y for _, y in pairs])

    def validate(self):
        """Queries are validation digits, the gallery is the training set: no query meets itself."""
        gallery, gallery_labels = self.embed(self.gallery_loader)
        queries, labels = self.embed(self.query_loader)
        nearest = gallery_labels[(queries @ gallery.t()).topk(5, dim=1).indices]
        r1 = (nearest[:, 0] == labels).float().mean().item()
        knn = (nearest.mode(dim=1).values == labels).float().mean().item()
        return r1, knn


if __name__ == "__main__":
    torch.manual_seed(0)
    prepare = lambda image: (image.float() / 255 - 0.17) / 0.28
    trainer = MetricTrainer(
        Embedder(), Digits(train=True, transform=prepare, noise=0.15), Digits(train=False, transform=prepare, noise=0.15)
    )
    trainer.fit()
