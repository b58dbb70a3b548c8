"""Embeddings of colored shapes with triplets mined in batches of P classes and K images, and recall at 1."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Sampler

from toydata import Shapes


def normalize(image):
    return (image - 0.5) / 0.2


class PKSampler(Sampler):
    """Batches of `p` classes with `k` samples of each."""

    def __init__(self, targets, p, k, batches):
        targets = torch.as_tensor(targets)
        self.groups = [torch.where(targets == c)[0] for c in targets.unique()]
        self.p, self.k, self.batches = p, k, batches

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            batch = []
            for c in torch.randperm(len(self.groups))[: self.p].tolist():
                group = self.groups[c]
                batch += group[torch.randperm(len(group))[: self.k]].tolist()
            yield batch


class EmbeddingNet(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(48, 48, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
        )
        self.embed = nn.Linear(48, dim)

    def forward(self, x):
        return F.normalize(self.embed(self.features(x)), dim=1)


class AllTripletsLoss(nn.Module):
    def __init__(self, margin):
        super().__init__()
        self.margin = margin

    def forward(self, embeddings, labels):
        # squared distances of unit vectors
        distance = 2 - 2 * embeddings @ embeddings.T
        same = labels[:, None] == labels[None, :]
        positive = same & ~torch.eye(len(labels), dtype=torch.bool)
        anchor, pos, neg = torch.where(positive[:, :, None] & ~same[:, None, :])
        d_pos, d_neg = distance[anchor, pos], distance[anchor, neg]
        loss = F.relu(d_pos - d_neg + self.margin).mean()
        return loss, (d_pos < d_neg).float().mean()


@torch.no_grad()
def embed_all(model, loader):
    model.eval()
    outputs, labels = [], []
    for images, targets in loader:
        outputs.append(model(images))
        labels.append(targets)
    return torch.cat(outputs), torch.cat(labels)


def recall_at_1(queries, query_labels, gallery, gallery_labels):
    nearest = (queries @ gallery.T).argmax(dim=1)
    return (gallery_labels[nearest] == query_labels).float().mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--p", type=int, default=6)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--margin", type=float, default=0.5)
    parser.add_argument("--lr", type=float, default=2e-3)
    args = parser.parse_args()
    torch.manual_seed(0)

    train_set, val_set = Shapes(train=True, transform=normalize), Shapes(train=False, transform=normalize)
    sampler = PKSampler(train_set.targets, args.p, args.k, args.batches)
    train_loader = DataLoader(train_set, batch_sampler=sampler)
    gallery_loader = DataLoader(train_set, batch_size=100)
    val_loader = DataLoader(val_set, batch_size=80)

    model = EmbeddingNet()
    criterion = AllTripletsLoss(args.margin)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[4], gamma=0.3)
    for epoch in range(args.epochs):
        model.train()
        total, right = 0.0, 0.0
        for images, targets in train_loader:
            loss, ordered = criterion(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
            right += ordered.item()
        scheduler.step()
        gallery = embed_all(model, gallery_loader)
        queries = embed_all(model, val_loader)
        print(
            f"epoch {epoch}: loss {total / len(train_loader):.4f}, triplets in order {right / len(train_loader):.3f}, "
            f"recall@1 {recall_at_1(*queries, *gallery):.3f}"
        )


if __name__ == "__main__":
    main()
