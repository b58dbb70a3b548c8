"""Deep metric learning with batch-hard triplets (research code, one config dictionary)."""
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from toydata import Digits

config = {
    "seed": 3,
    "data": {"train": 1000, "val": 300, "classes_per_batch": 8, "samples_per_class": 5, "batches": 25},
    "model": {"width": 24, "embedding_dim": 32},
    "loss": {"margin": 0.3},
    "optim": {"lr": 2e-3, "betas": (0.9, 0.99), "warmup": 20, "epochs": 8},
}


class ImageSet(Dataset):
    """Images in [-1, 1], with a little noise and contrast jitter in training."""

    def __init__(self, train, count, jitter):
        base = Digits(train=train, count=count)
        self.images = base.data.float() / 127.5 - 1
        self.labels = base.targets.numpy()
        self.jitter = jitter

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        if self.jitter:
            image = image * (0.8 + 0.4 * torch.rand(1, 1, 1)) + 0.05 * torch.randn_like(image)
        return image, int(self.labels[index])


class PKSampler(Sampler):
    """Batches of P classes with K samples each."""

    def __init__(self, labels, p, k, batches, seed=0):
        self.indices = {c: np.flatnonzero(labels == c) for c in np.unique(labels)}
        self.p, self.k, self.batches = p, k, batches
        self.seed = seed
        self.rng = np.random.RandomState(seed)

    def __len__(self):
        return self.batches

    def __iter__(self):
        rng = self.rng
        for _ in range(self.batches):
            batch = []
            for c in rng.choice(list(self.indices), self.p, replace=False):
                batch.extend(rng.choice(self.indices[c], self.k, replace=False).tolist())
            yield batch


class EmbeddingNet(nn.Module):
    def __init__(self, width, embedding_dim):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.Flatten(),
        )
        self.embed = nn.Linear(2 * width * 16, embedding_dim, bias=False)
        self.neck = nn.BatchNorm1d(embedding_dim)

    def forward(self, x):
        features = self.backbone(x)
        return F.normalize(self.neck(self.embed(features)), dim=1)


def pairwise_distances(z):
    return (2 - 2 * z @ z.t()).clamp(min=1e-6).sqrt()


def batch_hard_triplet_loss(z, labels, margin):
    dist = pairwise_distances(z)
    same = labels[:, None] == labels[None, :]
    eye = torch.eye(len(z), dtype=torch.bool, device=z.device)
    hardest_positive = dist.masked_fill(~same | eye, -1.0).max(dim=1).values
    hardest_negative = dist.masked_fill(same, 10.0).min(dim=1).values
    return F.relu(hardest_positive - hardest_negative + margin).mean()


@torch.no_grad()
def embed_all(model, loader):
    model.eval()
    zs, ys = zip(*[(model(x), y) for x, y in loader])
    return torch.cat(zs), torch.cat(ys)


def recall_at_k(z, labels, ks=(1, 5)):
    """Each image is a query, and all the others are the gallery."""
    sims = z @ z.t()
    sims.fill_diagonal_(-math.inf)
    top = sims.topk(max(ks), dim=1).indices
    hits = labels[top] == labels[:, None]
    return {k: hits[:, :k].any(dim=1).float().mean().item() for k in ks}


def lr_at(step, total, warmup):
    if step < warmup:
        return (step + 1) / warmup
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def run(cfg):
    torch.manual_seed(cfg["seed"])
    d, o = cfg["data"], cfg["optim"]
    train_set = ImageSet(True, d["train"], jitter=True)
    val_set = ImageSet(False, d["val"], jitter=False)
    sampler = PKSampler(train_set.labels, d["classes_per_batch"], d["samples_per_class"], d["batches"], cfg["seed"])
    train_loader = DataLoader(train_set, batch_sampler=sampler)
    val_loader = DataLoader(val_set, batch_size=100)

    model = EmbeddingNet(**cfg["model"])
    optimizer = torch.optim.Adam(model.parameters(), lr=o["lr"], betas=o["betas"])
    total = o["epochs"] * len(sampler)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: lr_at(s, total, o["warmup"]))

    history = []
    for epoch in range(o["epochs"]):
        model.train()
        running = 0.0
        for images, labels in train_loader:
            z = model(images)
            loss = batch_hard_triplet_loss(z, labels, cfg["loss"]["margin"])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            running += loss.item()
        recall = recall_at_k(*embed_all(model, val_loader))
        history.append({"epoch": epoch, "loss": running / len(sampler), **{f"R@{k}": v for k, v in recall.items()}})
        print("  ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in history[-1].items()))
    return history


def main():
    history = run(config)
    best = max(history, key=lambda h: h["R@1"])
    print(f"best R@1 {best['R@1']:.4f} in epoch {best['epoch']}")


if __name__ == "__main__":
    main()
