"""Metric learning on digits: P x K batches, triplets with semi-hard negatives, recall@1 against a gallery."""
import os
import random
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Sampler

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from toydata import Digits


class PKSampler(Sampler):
    """Batches of K images of each of P classes."""

    def __init__(self, labels, p, k, batches):
        self.p, self.k, self.batches = p, k, batches
        self.by_class = {}
        for index, label in enumerate(labels.tolist()):
            self.by_class.setdefault(label, []).append(index)

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            batch = []
            for label in random.sample(sorted(self.by_class), self.p):
                batch += random.sample(self.by_class[label], self.k)
            yield batch


class Embedder(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.norm3 = nn.BatchNorm2d(64)
        self.out = nn.Linear(64 * 4 * 4, dim)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x))), 2)
        x = F.relu(self.norm2(self.conv2(x)))
        x = F.max_pool2d(F.relu(self.norm3(self.conv3(x))), 2)
        return F.normalize(self.out(x.flatten(1)), dim=1)


def triplet_loss(embeddings, labels, margin=0.3):
    distance = 2 - 2 * embeddings @ embeddings.t()
    same = labels[:, None] == labels[None, :]
    pairs = same & ~torch.eye(len(labels), dtype=torch.bool)
    anchor, positive = pairs.nonzero(as_tuple=True)
    d_ap = distance[anchor, positive]
    d_an = distance[anchor]
    negative = ~same[anchor]
    # the nearest negative that is farther than the positive; where there is none, the farthest of the nearer ones
    semi = negative & (d_an > d_ap[:, None])
    outside = d_an.masked_fill(~semi, 1e4).min(1).values
    inside = d_an.masked_fill(~negative, -1e4).max(1).values
    chosen = torch.where(semi.any(1), outside, inside)
    return F.relu(d_ap - chosen + margin).mean()


def train(model, loader, optimizer):
    model.train()
    total = 0.0
    for images, labels in loader:
        loss = triplet_loss(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader)


@torch.no_grad()
def embed(model, loader):
    model.eval()
    pieces = [(model(images), labels) for images, labels in loader]
    return torch.cat([p[0] for p in pieces]), torch.cat([p[1] for p in pieces])


def recall_at_1(model, loader):
    """First half of the held-out images are queries, the second half is the gallery."""
    embeddings, labels = embed(model, loader)
    half = len(labels) // 2
    nearest = (embeddings[:half] @ embeddings[half:].t()).argmax(1)
    return (labels[half:][nearest] == labels[:half]).float().mean().item()


if __name__ == "__main__":
    random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    transform = lambda image: (image.float() / 255 - 0.24) / 0.33
    train_set = Digits(train=True, count=1500, noise=0.2, transform=transform)
    val_set = Digits(train=False, count=500, noise=0.2, transform=transform)
    train_loader = DataLoader(train_set, batch_sampler=PKSampler(train_set.targets, p=10, k=5, batches=40))
    val_loader = DataLoader(val_set, batch_size=100)
    model = Embedder()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=8, gamma=0.3)
    print(f"untrained: recall@1 {recall_at_1(model, val_loader):.3f}")
    for epoch in range(20):
        loss = train(model, train_loader, optimizer)
        scheduler.step()
        print(f"epoch {epoch:2d} triplet loss {loss:.4f} val recall@1 {recall_at_1(model, val_loader):.3f}")
