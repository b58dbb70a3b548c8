"""Embeddings of colored shapes with a triplet loss over all triplets of P x K batches (person re-identification style)."""

import argparse
import random
from collections import defaultdict

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Sampler

from toydata import NAMES, Shapes


class PKSampler(Sampler):
    """Batches of P identities with K images each, anew in each epoch."""

    def __init__(self, targets, p, k):
        self.p, self.k = p, k
        self.index = defaultdict(list)
        for i, target in enumerate(targets):
            self.index[target].append(i)
        self.batches = len(targets) // (p * k)

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            batch = []
            for identity in random.sample(sorted(self.index), self.p):
                batch.extend(random.sample(self.index[identity], self.k))
            yield batch


class EmbeddingNet(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        )
        self.embed = nn.Linear(32 * 4 * 4, dim)

    def forward(self, x):
        return F.normalize(self.embed(self.features(x).flatten(1)), dim=1)


class BatchAllTriplet(nn.Module):
    def __init__(self, margin=0.3):
        super().__init__()
        self.margin = margin

    def forward(self, z, labels):
        sim = z @ z.t()
        dist = 1 - sim
        same = labels[:, None] == labels[None, :]
        itself = torch.eye(len(labels), dtype=torch.bool, device=z.device)
        # [anchor, positive, negative]
        gap = dist[:, :, None] - dist[:, None, :]
        valid = (same & ~itself)[:, :, None] & ~same[:, None, :]
        losses = F.relu(gap + self.margin)[valid]
        active = (losses.detach() > 0).float().mean()
        return losses.mean(), active


def normalize(image):
    return (image - 0.5) / 0.2


@torch.no_grad()
def embed_all(model, dataset, device):
    model.eval()
    parts, targets = [], []
    for images, labels in DataLoader(dataset, batch_size=120):
        parts.append(model(images.to(device)))
        targets.append(labels)
    return torch.cat(parts), torch.cat(targets).to(device)


def knn_accuracy(gallery, gallery_labels, query, query_labels, k=5):
    nearest = (query @ gallery.t()).topk(k, dim=1).indices
    votes = gallery_labels[nearest].mode(dim=1).values
    return (votes == query_labels).float().mean().item()


def get_args():
    parser = argparse.ArgumentParser("triplet embeddings")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("-p", type=int, default=6)
    parser.add_argument("-k", type=int, default=6)
    parser.add_argument("--margin", type=float, default=0.3)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main():
    args = get_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    train_set = Shapes(train=True, transform=normalize)
    val_set = Shapes(train=False, transform=normalize)
    assert args.p <= len(NAMES)
    loader = DataLoader(train_set, batch_sampler=PKSampler(train_set.targets, args.p, args.k))

    model = EmbeddingNet().to(device)
    criterion = BatchAllTriplet(args.margin)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[6], gamma=0.2)

    for epoch in range(args.epochs):
        model.train()
        total, shares = 0.0, 0.0
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            loss, share = criterion(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total = total + loss.detach()
            shares = shares + share
        scheduler.step()
        gallery = embed_all(model, train_set, device)
        query = embed_all(model, val_set, device)
        print(f"[{epoch + 1}/{args.epochs}] loss {total / len(loader):.4f} active {shares / len(loader):.3f} "
              f"5-nn accuracy {knn_accuracy(*gallery, *query):.3f}")


if __name__ == "__main__":
    main()
