"""Embeddings of colored shapes: P x K batches, all triplets of a batch, retrieval on held-out images."""

import argparse
import random
from collections import defaultdict

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Sampler

from toydata import NAMES, Shapes


def normalize(image):
    return (image - 0.5) / 0.2


class PKSampler(Sampler):
    """Batches of p classes with k images each."""

    def __init__(self, labels, p, k, batches, seed=0):
        self.p, self.k, self.batches = p, k, batches
        self.by_class = defaultdict(list)
        for index, label in enumerate(labels):
            self.by_class[label].append(index)
        self.random = random.Random(seed)

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            batch = []
            for label in self.random.sample(sorted(self.by_class), self.p):
                batch += self.random.sample(self.by_class[label], self.k)
            yield batch


class EmbeddingNet(nn.Module):
    def __init__(self, dim=32, width=16):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1), nn.BatchNorm2d(4 * width), nn.ReLU(),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        )
        self.embedding = nn.Linear(4 * width, dim)

    def forward(self, x):
        return F.normalize(self.embedding(self.features(x)), dim=1)


class TripletLoss(nn.Module):
    """Mean over all triplets (anchor, positive, negative) of the batch."""

    def __init__(self, margin=0.4):
        super().__init__()
        self.margin = margin

    def forward(self, embeddings, labels):
        same = labels[:, None] == labels[None, :]
        positive = same & ~torch.eye(len(labels), dtype=torch.bool)
        similarity = embeddings @ embeddings.T
        distance = 1 - similarity
        losses = F.relu(distance[:, :, None] - distance[:, None, :] + self.margin)
        valid = positive[:, :, None] & ~same[:, None, :]
        losses = losses * valid
        active = (losses > 0).sum() / valid.sum()
        return losses.sum() / valid.sum(), active.item()


@torch.no_grad()
def embed(model, loader):
    model.eval()
    outputs = [(model(images), labels) for images, labels in loader]
    embeddings, labels = zip(*outputs)
    return torch.cat(embeddings), torch.cat(labels)


def recall_at(embeddings, labels, ks=(1, 5)):
    similarity = embeddings @ embeddings.T
    similarity.fill_diagonal_(-2)
    neighbors = labels[similarity.topk(max(ks), dim=1).indices]
    hits = neighbors == labels[:, None]
    return {k: hits[:, :k].any(1).float().mean().item() for k in ks}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batches", type=int, default=25)
    parser.add_argument("-p", type=int, default=6)
    parser.add_argument("-k", type=int, default=6)
    parser.add_argument("--margin", type=float, default=0.4)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()

    torch.manual_seed(0)
    train_set = Shapes(train=True, transform=normalize)
    val_set = Shapes(train=False, transform=normalize)
    sampler = PKSampler(train_set.targets, args.p, args.k, args.batches)
    train_loader = DataLoader(train_set, batch_sampler=sampler)
    val_loader = DataLoader(val_set, batch_size=60)

    model = EmbeddingNet()
    criterion = TripletLoss(args.margin)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.3)
    for epoch in range(args.epochs):
        model.train()
        total = share = 0.0
        for images, labels in train_loader:
            loss, active = criterion(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
            share += active
        scheduler.step()
        recall = recall_at(*embed(model, val_loader))
        print(f"[{epoch}] loss {total / len(train_loader):.4f} active {share / len(train_loader):.3f} "
              f"R@1 {recall[1]:.3f} R@5 {recall[5]:.3f}")

    embeddings, labels = embed(model, val_loader)
    for index, name in enumerate(NAMES):
        center = embeddings[labels == index].mean(0)
        print(f"{name:12s} spread {1 - center.norm():.3f}")


if __name__ == "__main__":
    main()
