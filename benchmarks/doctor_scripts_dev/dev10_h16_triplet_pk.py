"""Metric learning: batches of P digits with K pictures each, all triplets that break the margin, retrieval on new pictures."""
import argparse
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Sampler

from toydata import Digits


class PKSampler(Sampler):
    """Lists of indices: p classes, k different samples of each."""

    def __init__(self, targets, p, k, batches):
        self.by_class = {c: torch.nonzero(targets == c).flatten().tolist() for c in targets.unique().tolist()}
        self.p, self.k, self.batches = p, k, batches

    def __len__(self):
        return self.batches

    def __iter__(self):
        pools = {c: random.sample(v, len(v)) for c, v in self.by_class.items()}
        for _ in range(self.batches):
            batch = []
            for c in random.sample(list(pools), self.p):
                if len(pools[c]) < self.k:
                    pools[c] = random.sample(self.by_class[c], len(self.by_class[c]))
                batch += [pools[c].pop() for _ in range(self.k)]
            yield batch


class Embedder(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24), nn.PReLU(24),
            nn.Conv2d(24, 48, 3, 2, padding=1), nn.BatchNorm2d(48), nn.PReLU(48),
            nn.Conv2d(48, 64, 3, 2, padding=1), nn.BatchNorm2d(64), nn.PReLU(64))
        self.project = nn.Linear(64 * 16, dim)

    def forward(self, x):
        return F.normalize(self.project(self.conv(x).flatten(1)), dim=1)


def batch_all_triplet(embeddings, labels, margin):
    """Mean over those triplets that break the margin; the share of these is reported."""
    distance = (2 - 2 * embeddings @ embeddings.T).clamp(min=1e-6).sqrt()
    same = labels[:, None] == labels[None]
    itself = torch.eye(len(labels), dtype=torch.bool)
    triplets = (same & ~itself)[:, :, None] & ~same[:, None, :]  # anchor, positive, negative
    excess = distance[:, :, None] - distance[:, None, :] + margin
    losses = F.relu(excess)[triplets]
    violated = (losses > 0).sum()
    return losses.sum() / violated.clamp(min=1), violated.detach() / triplets.sum()


@torch.no_grad()
def embed(model, dataset):
    model.eval()
    pieces = [(model(x), y) for x, y in DataLoader(dataset, 200)]
    vectors, labels = zip(*pieces)
    return torch.cat(vectors), torch.cat(labels)


def retrieval(queries, query_labels, gallery, gallery_labels, k=5):
    nearest = (queries @ gallery.T).topk(k, dim=1).indices
    hits = gallery_labels[nearest] == query_labels[:, None]
    return hits[:, 0].float().mean().item(), hits.float().mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--p", type=int, default=8)
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--steps", type=int, default=25, help="batches in an epoch")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--margin", type=float, default=0.25)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)

    reference = Digits(train=True, count=1600).data.float() / 255
    mean, std = reference.mean(), reference.std()
    transform = lambda image: (image.float() / 255 - mean) / std
    train_set = Digits(train=True, count=1600, transform=transform)
    val_set = Digits(train=False, count=400, transform=transform)
    loader = DataLoader(train_set, batch_sampler=PKSampler(train_set.targets, args.p, args.k, args.steps))

    model = Embedder()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs, eta_min=args.lr / 50)
    for epoch in range(args.epochs):
        model.train()
        losses, active = [], []
        for x, y in loader:
            loss, violated = batch_all_triplet(model(x), y, args.margin)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            active.append(violated)
        scheduler.step()
        gallery, gallery_labels = embed(model, train_set)
        queries, query_labels = embed(model, val_set)
        top1, precision = retrieval(queries, query_labels, gallery, gallery_labels)
        print(f"epoch {epoch} loss {torch.stack(losses).mean():.4f} violated {torch.stack(active).mean():.3f} R@1 {top1:.4f} P@5 {precision:.4f}")


if __name__ == "__main__":
    main()
