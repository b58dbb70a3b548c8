"""Digit embeddings with a triplet loss, trained with Accelerate, judged by retrieval (recall@1, recall@5)."""
import random
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Dataset, TensorDataset

from toydata import draw_digits


@dataclass
class Config:
    embed_dim: int = 32
    margin: float = 0.3
    epochs: int = 8
    batch_size: int = 48
    lr: float = 2e-3
    weight_decay: float = 1e-4
    n_train: int = 2000
    n_val: int = 500
    seed: int = 0


def normalize(images):
    return (images.float() / 255.0 - 0.25) / 0.35


class TripletDigits(Dataset):
    """(anchor, positive, negative): another image of the same digit, and one of another digit."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels
        self.by_class = {c: (labels == c).nonzero().flatten().tolist() for c in range(10)}

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        label = int(self.labels[i])
        positive = i
        while positive == i:
            positive = random.choice(self.by_class[label])
        negative = random.choice(self.by_class[random.choice([c for c in range(10) if c != label])])
        return self.images[i], self.images[positive], self.images[negative]


class EmbeddingNet(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(48, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        )
        self.embed = nn.Linear(64 * 2 * 2, dim)

    def forward(self, x):
        return F.normalize(self.embed(self.features(x).flatten(1)), dim=1)


def triplet_loss(anchor, positive, negative, margin):
    d_ap = (anchor - positive).pow(2).sum(1)
    d_an = (anchor - negative).pow(2).sum(1)
    return F.relu(d_ap - d_an + margin).mean()


@torch.no_grad()
def evaluate(model, loader, accelerator, ks=(1, 5)):
    """Leave-one-out retrieval: is a neighbor of the query of the same digit?"""
    model.eval()
    embeddings, labels = [], []
    for images, targets in loader:
        z, targets = accelerator.gather_for_metrics((model(images), targets))
        embeddings.append(z)
        labels.append(targets)
    embeddings, labels = torch.cat(embeddings), torch.cat(labels)
    distances = torch.cdist(embeddings, embeddings)
    distances.fill_diagonal_(float("inf"))
    nearest = distances.topk(max(ks), largest=False).indices
    same = labels[nearest] == labels[:, None]
    return {f"recall@{k}": same[:, :k].any(1).float().mean().item() for k in ks}


def main():
    config = Config()
    accelerator = Accelerator()
    set_seed(config.seed)

    train_images, train_labels = draw_digits(config.n_train, seed=0, noise=0.2)
    val_images, val_labels = draw_digits(config.n_val, seed=1, noise=0.2)
    train_set = TripletDigits(normalize(train_images), train_labels)
    val_set = TensorDataset(normalize(val_images), val_labels)
    train_loader = DataLoader(train_set, batch_size=config.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=128)

    model = EmbeddingNet(config.embed_dim)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config.epochs * len(train_loader))
    model, optimizer, train_loader, val_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, val_loader, scheduler
    )
    accelerator.print("before training", evaluate(model, val_loader, accelerator))

    for epoch in range(config.epochs):
        model.train()
        total_loss = 0.0
        for anchor, positive, negative in train_loader:
            batch = torch.cat([anchor, positive, negative])
            z_anchor, z_positive, z_negative = model(batch).chunk(3)
            loss = triplet_loss(z_anchor, z_positive, z_negative, config.margin)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
            total_loss += loss.item()
        scores = evaluate(model, val_loader, accelerator)
        line = "  ".join(f"{k} {v:.4f}" for k, v in scores.items())
        accelerator.print(f"epoch {epoch + 1}  loss {total_loss / len(train_loader):.4f}  {line}")


if __name__ == "__main__":
    main()
