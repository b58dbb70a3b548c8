"""Metric learning of digits: PK batches, batch-all triplet loss; everything from one config."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from toydata import draw_digits

CONFIG = {
    "data": {"train": 1200, "val": 300, "noise_std": 8 / 255, "mean": 0.15, "std": 0.29},
    "sampler": {"p": 6, "k": 6},
    "model": {"width": 16, "dim": 32},
    "loss": {"margin": 0.3},
    "optim": {"lr": 1e-3, "weight_decay": 1e-4},
    "seed": 3,
}


class DigitPatches(Dataset):
    def __init__(self, cfg, split):
        images, self.labels = draw_digits(cfg[split], seed={"train": 20, "val": 21}[split])
        self.images = images.float() / 255
        self.cfg, self.augment = cfg, split == "train"

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image = self.images[i]
        if self.augment:
            image = image + self.cfg["noise_std"] * torch.randn_like(image)
        return (image - self.cfg["mean"]) / self.cfg["std"], self.labels[i]


class PKSampler(Sampler):
    """Yields batches of P classes with K samples each."""

    def __init__(self, labels, p, k):
        self.labels, self.p, self.k = labels, p, k
        self.classes = labels.unique()
        self.index_of = {int(c): (labels == c).nonzero().flatten() for c in self.classes}

    def __len__(self):
        return len(self.labels) // (self.p * self.k)

    def __iter__(self):
        for _ in range(len(self)):
            order = torch.randperm(len(self.classes))
            chosen = self.classes[order[: self.p]]
            batch = []
            for c in chosen.tolist():
                pool = self.index_of[c]
                batch += pool[torch.randperm(len(pool))[: self.k]].tolist()
            yield batch


class EmbeddingNet(nn.Module):
    def __init__(self, width, dim):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
        )
        self.projection = nn.Linear(2 * width * 16, dim)

    def forward(self, x):
        return F.normalize(self.projection(self.features(x).flatten(1)), dim=1)


class BatchAllTriplet(nn.Module):
    def __init__(self, margin):
        super().__init__()
        self.margin = margin

    def forward(self, embeddings, labels):
        distance = (2 - 2 * embeddings @ embeddings.t()).clamp(min=1e-6).sqrt()
        same = labels[:, None] == labels[None, :]
        positive = same & ~torch.eye(len(labels), dtype=torch.bool)
        valid = positive[:, :, None] & ~same[:, None, :]
        d_ap, d_an = distance[:, :, None], distance[:, None, :]
        triplets = F.relu(d_ap - d_an + self.margin) * valid
        return triplets.sum() / valid.sum().clamp(min=1)


@torch.no_grad()
def recall_at_1(model, images, labels):
    model.eval()
    embeddings = model(images)
    similarity = embeddings @ embeddings.t()
    similarity.fill_diagonal_(-2)
    recall = (labels[similarity.argmax(dim=1)] == labels).float().mean()
    model.train()
    return recall


class Runner:
    def __init__(self):
        self.running_recall = torch.zeros(())

    def step(self, model, batch, optimizer, criterion):
        images, labels = batch
        self.running_recall = 0.9 * self.running_recall + 0.1 * recall_at_1(model, images, labels)
        loss = criterion(model(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss


def setup():
    torch.manual_seed(CONFIG["seed"])
    train_set, val_set = (DigitPatches(CONFIG["data"], split) for split in ("train", "val"))
    train = DataLoader(train_set, batch_sampler=PKSampler(train_set.labels, **CONFIG["sampler"]))
    val = DataLoader(val_set, batch_size=100)
    model = EmbeddingNet(**CONFIG["model"])
    optimizer = torch.optim.Adam(model.parameters(), **CONFIG["optim"])
    criterion = BatchAllTriplet(**CONFIG["loss"])
    return {"model": model, "train": train, "val": val, "loss": criterion, "optimizer": optimizer, "step": Runner().step}
