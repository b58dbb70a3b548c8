"""Embeddings of digits from triplets, all of a batch, with classes drawn evenly."""

import argparse
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Sampler

from toydata import Digits


class PKSampler(Sampler):
    """Batches of P classes with K samples each."""

    def __init__(self, targets, p, k, batches, seed=0):
        self.p, self.k, self.batches = p, k, batches
        self.by_class = {}
        for i, t in enumerate(targets.tolist()):
            self.by_class.setdefault(t, []).append(i)
        self.rng = random.Random(seed)

    def __len__(self):
        return self.batches

    def __iter__(self):
        pools = {c: [] for c in self.by_class}
        for _ in range(self.batches):
            batch = []
            for c in self.rng.sample(sorted(self.by_class), self.p):
                if len(pools[c]) < self.k:
                    pools[c] = self.rng.sample(self.by_class[c], len(self.by_class[c]))
                batch += [pools[c].pop() for _ in range(self.k)]
            yield batch


class EmbeddingNet(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.convnet = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.PReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.PReLU(),
            nn.MaxPool2d(2),
        )
        self.fc = nn.Linear(32 * 4 * 4, dim)

    def forward(self, x):
        return F.normalize(self.fc(self.convnet(x).flatten(1)), dim=1)


class BatchAllTripletLoss(nn.Module):
    """The mean over the triplets that violate the margin, on squared distances."""

    def __init__(self, margin):
        super().__init__()
        self.margin = margin

    def forward(self, embeddings, labels):
        dist = 2 - 2 * embeddings @ embeddings.t()
        same = labels[:, None] == labels[None, :]
        positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        valid = positive.unsqueeze(2) & (~same).unsqueeze(1)  # anchor, positive, negative
        losses = F.relu(dist.unsqueeze(2) - dist.unsqueeze(1) + self.margin)[valid]
        active = (losses > 1e-6).sum()
        return losses.sum() / active.clamp(min=1), active.item() / losses.numel()


def to_tensor(image):
    return (image.float() / 255 - 0.2) / 0.33


@torch.no_grad()
def embed(model, loader):
    model.eval()
    pairs = [(model(x), y) for x, y in loader]
    return torch.cat([e for e, _ in pairs]), torch.cat([y for _, y in pairs])


def recall_at_1(model, gallery_loader, query_loader):
    gallery, gallery_labels = embed(model, gallery_loader)
    query, query_labels = embed(model, query_loader)
    nearest = (query @ gallery.t()).argmax(dim=1)
    return (gallery_labels[nearest] == query_labels).float().mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--classes-per-batch", type=int, default=8)
    parser.add_argument("--samples-per-class", type=int, default=5)
    parser.add_argument("--margin", type=float, default=0.4)
    parser.add_argument("--lr", type=float, default=2e-3)
    args = parser.parse_args()

    torch.manual_seed(3)
    train_set = Digits(train=True, transform=to_tensor)
    test_set = Digits(train=False, transform=to_tensor)
    batches = len(train_set) // (args.classes_per_batch * args.samples_per_class)
    sampler = PKSampler(train_set.targets, args.classes_per_batch, args.samples_per_class, batches)
    train_loader = DataLoader(train_set, batch_sampler=sampler)
    gallery_loader = DataLoader(train_set, batch_size=200)
    query_loader = DataLoader(test_set, batch_size=150)

    model = EmbeddingNet()
    loss_fn = BatchAllTripletLoss(args.margin)
    optimizer = torch.optim.NAdam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[5, 7], gamma=0.3)

    for epoch in range(args.epochs):
        model.train()
        total, fraction = 0.0, 0.0
        for images, labels in train_loader:
            loss, active = loss_fn(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
            fraction += active
        scheduler.step()
        recall = recall_at_1(model, gallery_loader, query_loader)
        print(f"epoch {epoch}: loss {total / batches:.4f}, active {fraction / batches:.3f}, recall@1 {recall:.3f}")


if __name__ == "__main__":
    main()
