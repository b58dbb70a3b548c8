"""Metric learning on colored shapes with triplets, in the style of pytorch-metric-learning's plain examples."""

import argparse
from collections import defaultdict

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Sampler

from toydata import Shapes


class PKSampler(Sampler):
    """Batches of P classes with K samples each."""

    def __init__(self, labels, p, k, batches):
        self.by_class = defaultdict(list)
        for index, label in enumerate(labels):
            self.by_class[label].append(index)
        self.p, self.k, self.batches = p, k, batches

    def __len__(self):
        return self.batches

    def __iter__(self):
        classes = sorted(self.by_class)
        for _ in range(self.batches):
            batch = []
            for c in torch.randperm(len(classes))[: self.p].tolist():
                members = self.by_class[classes[c]]
                batch += [members[i] for i in torch.randperm(len(members))[: self.k].tolist()]
            yield batch


class Embedder(nn.Module):
    def __init__(self, width=24, dim=16):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
        )
        self.project = nn.Linear(2 * width, dim)

    def forward(self, x):
        return F.normalize(self.project(self.features(x)), dim=1)


def cosine_distance(a, b):
    return 1 - F.cosine_similarity(a, b)


def mine_triplets(embeddings, labels):
    """For each anchor any sample of its class, and one of another, the nearer the likelier."""
    with torch.no_grad():
        similarity = embeddings @ embeddings.t()
        same = labels[:, None] == labels[None, :]
        itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        positive = torch.multinomial((same & ~itself).float(), 1).squeeze(1)
        nearness = (similarity / 0.2).masked_fill(same, -1e9).softmax(1)
        negative = torch.multinomial(nearness, 1).squeeze(1)
    return torch.arange(len(labels), device=labels.device), positive, negative


def train_one_epoch(model, loader, loss_fn, optimizer, device):
    model.train()
    total = 0.0
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        embeddings = model(images)
        a, p, n = mine_triplets(embeddings, labels)
        loss = loss_fn(embeddings[a], embeddings[p], embeddings[n])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader)


@torch.no_grad()
def get_all_embeddings(model, loader, device):
    model.eval()
    embeddings, labels = [], []
    for images, targets in loader:
        embeddings.append(model(images.to(device)).cpu())
        labels.append(targets)
    return torch.cat(embeddings), torch.cat(labels)


def recall_at_1(embeddings, labels):
    similarity = embeddings @ embeddings.t()
    similarity.fill_diagonal_(-2)
    nearest = similarity.argmax(1)
    return (labels[nearest] == labels).float().mean().item()


def normalize(image):
    return (image - 0.5) / 0.2


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batches", type=int, default=25, help="batches an epoch")
    parser.add_argument("--p", type=int, default=6)
    parser.add_argument("--k", type=int, default=6)
    parser.add_argument("--margin", type=float, default=0.3)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train_set = Shapes(train=True, transform=normalize)
    val_set = Shapes(train=False, transform=normalize)
    sampler = PKSampler(train_set.targets, args.p, args.k, args.batches)
    train_loader = DataLoader(train_set, batch_sampler=sampler)
    val_loader = DataLoader(val_set, batch_size=80)

    model = Embedder().to(device)
    loss_fn = nn.TripletMarginWithDistanceLoss(distance_function=cosine_distance, margin=args.margin)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs, eta_min=args.lr / 10)
    for epoch in range(args.epochs):
        loss = train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        scheduler.step()
        recall = recall_at_1(*get_all_embeddings(model, val_loader, device))
        print(f"Epoch {epoch}: loss {loss:.4f}, recall@1 {recall:.3f}")


if __name__ == "__main__":
    main()
