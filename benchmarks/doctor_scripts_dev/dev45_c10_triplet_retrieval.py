"""Embeddings of digits by triplets: every anchor with every positive and negative of its batch."""
import random
from collections import defaultdict

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Sampler

from toydata import Digits


class PKSampler(Sampler):
    """Batches of k samples of each of p classes."""

    def __init__(self, labels, p, k, batches):
        self.places = defaultdict(list)
        for place, label in enumerate(labels):
            self.places[int(label)].append(place)
        self.p, self.k, self.batches = p, k, batches

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            batch = []
            for label in random.sample(sorted(self.places), self.p):
                batch.extend(random.sample(self.places[label], self.k))
            yield batch


class Embedder(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.project = nn.Linear(48 * 4 * 4, dim)

    def forward(self, images):
        return F.normalize(self.project(self.features(images).flatten(1)), dim=1)


class AllTriplets(nn.Module):
    def __init__(self, margin=0.4):
        super().__init__()
        self.margin = margin

    def forward(self, embeddings, labels):
        pairs = 2 - 2 * embeddings @ embeddings.T
        same = labels[:, None] == labels[None, :]
        positive = same & ~torch.eye(len(labels), dtype=torch.bool)
        valid = positive[:, :, None] & ~same[:, None, :]
        gaps = pairs[:, :, None] - pairs[:, None, :]
        costs = F.relu(gaps + self.margin)[valid]
        active = (costs > 1e-7).sum()
        return costs.sum() / active.clamp(min=1), active.item() / max(1, costs.numel())


@torch.no_grad()
def embed(model, dataset):
    model.eval()
    vectors, labels = [], []
    for images, targets in DataLoader(dataset, batch_size=200):
        vectors.append(model(images))
        labels.append(targets)
    return torch.cat(vectors), torch.cat(labels)


def retrieval(model, gallery_set, query_set):
    gallery, gallery_labels = embed(model, gallery_set)
    queries, query_labels = embed(model, query_set)
    near = (queries @ gallery.T).topk(5, dim=1).indices
    hits = gallery_labels[near] == query_labels[:, None]
    return hits[:, 0].float().mean().item(), hits.float().mean().item()


def to_input(image):
    return (image.float() / 255.0 - 0.15) / 0.28


def main():
    random.seed(13)
    torch.manual_seed(13)
    train_set = Digits(train=True, transform=to_input)
    query_set = Digits(train=False, transform=to_input)
    loader = DataLoader(train_set, batch_sampler=PKSampler(train_set.targets, p=8, k=6, batches=25))
    model = Embedder()
    criterion = AllTriplets()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[5, 7], gamma=0.3)
    for epoch in range(1, 9):
        model.train()
        sum_loss = sum_active = 0.0
        for images, labels in loader:
            loss, active = criterion(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sum_loss += loss.item()
            sum_active += active
        scheduler.step()
        first, five = retrieval(model, train_set, query_set)
        print(f"[{epoch}/8] loss {sum_loss / len(loader):.4f} active {sum_active / len(loader):.3f} P@1 {first:.3f} P@5 {five:.3f}")


if __name__ == "__main__":
    main()
