"""Embeddings of colored shapes with triplets; retrieval among held-out images."""

import argparse
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes


def normalize(image):
    return (image - 0.5) / 0.25


class TripletShapes(Dataset):
    """Each image is an anchor once an epoch; its positive and negative are drawn anew."""

    def __init__(self, base, rng):
        self.base = base
        self.rng = rng
        self.by_class = {}
        for index, target in enumerate(base.targets):
            self.by_class.setdefault(target, []).append(index)
        self.classes = sorted(self.by_class)

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        target = self.base.targets[index]
        positive = index
        while positive == index:
            positive = self.rng.choice(self.by_class[target])
        other = self.rng.choice([c for c in self.classes if c != target])
        negative = self.rng.choice(self.by_class[other])
        return tuple(self.base[i][0] for i in (index, positive, negative))


class EmbeddingNet(nn.Module):
    def __init__(self, dim=16, width=16):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.GroupNorm(4, width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.GroupNorm(4, 2 * width),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(1),
        )
        self.projection = nn.Linear(2 * width, dim)

    def forward(self, x):
        return F.normalize(self.projection(self.features(x).flatten(1)), dim=1)


class TripletNet(nn.Module):
    def __init__(self, embedding_net):
        super().__init__()
        self.embedding_net = embedding_net

    def forward(self, a, p, n):
        return self.embedding_net(a), self.embedding_net(p), self.embedding_net(n)

    def get_embedding(self, x):
        return self.embedding_net(x)


@torch.no_grad()
def embed(model, dataset):
    model.eval()
    vectors, targets = [], []
    for images, target in DataLoader(dataset, batch_size=120):
        vectors.append(model.get_embedding(images))
        targets.append(target)
    return torch.cat(vectors), torch.cat(targets)


def recall_at(vectors, targets, ks=(1, 5)):
    similarity = vectors @ vectors.t()
    similarity.fill_diagonal_(-2.0)
    nearest = similarity.topk(max(ks), dim=1).indices
    hits = targets[nearest] == targets[:, None]
    return [hits[:, :k].any(dim=1).float().mean().item() for k in ks]


def fit(model, loader, criterion, optimizer, scheduler):
    model.train()
    total, active, count = 0.0, 0, 0
    for anchor, positive, negative in loader:
        optimizer.zero_grad()
        anchor_out, positive_out, negative_out = model(anchor, positive, negative)
        loss = criterion(anchor_out, positive_out, negative_out)
        loss.backward()
        optimizer.step()
        scheduler.step()
        with torch.no_grad():
            closer = F.pairwise_distance(anchor_out, positive_out) + criterion.margin
            active += (closer > F.pairwise_distance(anchor_out, negative_out)).sum().item()
        total += loss.item() * len(anchor)
        count += len(anchor)
    return total / count, active / count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch_size", type=int, default=36)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--margin", type=float, default=0.4)
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    train_set = Shapes(train=True, transform=normalize)
    test_set = Shapes(train=False, transform=normalize)
    loader = DataLoader(TripletShapes(train_set, random.Random(args.seed)), batch_size=args.batch_size, shuffle=True)
    model = TripletNet(EmbeddingNet())
    criterion = nn.TripletMarginLoss(margin=args.margin)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, total_steps=args.epochs * len(loader), pct_start=0.2
    )
    print(f"{len(train_set)} images of {len(NAMES)} kinds")
    for epoch in range(args.epochs):
        loss, active = fit(model, loader, criterion, optimizer, scheduler)
        r1, r5 = recall_at(*embed(model, test_set))
        print(f"epoch {epoch}: loss {loss:.4f}  active {active:.2f}  recall@1 {r1:.3f}  recall@5 {r5:.3f}")


if __name__ == "__main__":
    main()
