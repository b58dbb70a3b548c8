"""Deep metric learning: batch-hard triplets on colored shapes (research code with a config dict)."""

import copy
import json
from collections import defaultdict

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Sampler

from toydata import Shapes

CONFIG = {
    "exp_name": "batch_hard_shapes",
    "seed": 3,
    "data": {"size": 16, "classes_per_batch": 6, "samples_per_class": 6, "noise": 0.05},
    "model": {"width": 16, "embed_dim": 32},
    "loss": {"margin": 0.3},
    "optim": {"name": "adam", "lr": 1e-3, "weight_decay": 1e-4, "epochs": 10},
}

class Augment:
    """Flips and a little noise; none of it changes the color or the kind of a shape."""

    def __init__(self, noise):
        self.noise = noise

    def __call__(self, image):
        if torch.rand(()).item() < 0.5:
            image = image.flip(-1)
        if torch.rand(()).item() < 0.5:
            image = image.flip(-2)
        image = image + self.noise * torch.randn_like(image)
        return standardize(image)

def standardize(image):
    return (image - 0.5) / 0.2

class PKSampler(Sampler):
    """Batches of P classes with K samples of each; seeded with the epoch, so that all ranks agree."""

    def __init__(self, targets, p, k, seed=0):
        self.p, self.k, self.seed, self.epoch = p, k, seed, 0
        self.length = len(targets) // (p * k)
        self.index = defaultdict(list)
        for i, target in enumerate(targets):
            self.index[target].append(i)

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.length

    def __iter__(self):
        g = torch.Generator().manual_seed(1000 * self.seed + self.epoch)
        classes = sorted(self.index)
        for _ in range(self.length):
            batch = []
            for c in torch.randperm(len(classes), generator=g)[: self.p].tolist():
                members = self.index[classes[c]]
                chosen = torch.randperm(len(members), generator=g)[: self.k].tolist()
                batch.extend(members[j] for j in chosen)
            yield batch

class EmbeddingNet(nn.Module):
    def __init__(self, width, embed_dim):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1), nn.BatchNorm2d(4 * width), nn.ReLU(),
            nn.AdaptiveMaxPool2d(1),
        )
        self.embedding = nn.Linear(4 * width, embed_dim)

    def forward(self, x):
        x = self.features(x).flatten(1)
        return F.normalize(self.embedding(x), dim=1)

def pairwise_distance(embeddings):
    squared = 2 - 2 * embeddings @ embeddings.t()
    return squared.clamp(min=1e-6).sqrt()

class BatchHardTripletLoss(nn.Module):
    def __init__(self, margin):
        super().__init__()
        self.margin = margin

    def forward(self, embeddings, labels):
        dist = pairwise_distance(embeddings)
        same = labels[:, None] == labels[None, :]
        hardest_pos = dist.masked_fill(~same, 0.0).max(dim=1).values
        hardest_neg = dist.masked_fill(same, 4.0).min(dim=1).values
        # the soft part keeps a gradient for triplets that the margin is content with
        hinge = F.relu(hardest_pos - hardest_neg + self.margin)
        return hinge.mean() + 0.1 * F.softplus(hardest_pos - hardest_neg).mean()

@torch.no_grad()
def extract(model, loader):
    model.eval()
    embeddings, labels = [], []
    for images, targets in loader:
        embeddings.append(model(images))
        labels.append(targets)
    return torch.cat(embeddings), torch.cat(labels)

def recall_at_k(embeddings, labels, ks=(1, 5)):
    """Share of queries with a sample of their class among the k nearest others."""
    similarity = embeddings @ embeddings.t()
    similarity.fill_diagonal_(-2.0)
    nearest = labels[similarity.topk(max(ks), dim=1).indices]
    hits = nearest == labels[:, None]
    return {f"R@{k}": hits[:, :k].any(dim=1).float().mean().item() for k in ks}

def build_loaders(cfg):
    train_set = Shapes(train=True, size=cfg["data"]["size"], transform=Augment(cfg["data"]["noise"]))
    test_set = Shapes(train=False, size=cfg["data"]["size"], transform=standardize)
    sampler = PKSampler(train_set.targets, cfg["data"]["classes_per_batch"], cfg["data"]["samples_per_class"], cfg["seed"])
    return DataLoader(train_set, batch_sampler=sampler), DataLoader(test_set, batch_size=80), sampler

def run(cfg):
    print(json.dumps(cfg))
    torch.manual_seed(cfg["seed"])
    train_loader, test_loader, sampler = build_loaders(cfg)
    model = EmbeddingNet(**cfg["model"])
    criterion = BatchHardTripletLoss(**cfg["loss"])
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg["optim"]["lr"], weight_decay=cfg["optim"]["weight_decay"])
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=cfg["optim"]["epochs"])
    best = {"R@1": -1.0}
    for epoch in range(cfg["optim"]["epochs"]):
        sampler.set_epoch(epoch)
        model.train()
        running = 0.0
        for images, labels in train_loader:
            loss = criterion(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            running += loss.item()
        scheduler.step()
        result = recall_at_k(*extract(model, test_loader))
        print(f"[{epoch:02d}] loss {running / len(train_loader):.4f} " + json.dumps(result))
        if result["R@1"] > best["R@1"]:
            best = {**result, "epoch": epoch, "state": copy.deepcopy(model.state_dict())}
    print("best", {k: v for k, v in best.items() if k != "state"})

def main():
    run(CONFIG)

if __name__ == "__main__":
    main()
