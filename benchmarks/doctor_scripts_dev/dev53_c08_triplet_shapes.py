"""Embeddings of colored shapes by triplets; batches hold P classes with K images of each."""

import argparse

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Sampler

from toydata import NAMES, Shapes


class PKSampler(Sampler):
    """Batches of `p` classes and `k` images of each, anew in each epoch."""

    def __init__(self, labels, p, k, batches):
        self.labels = torch.as_tensor(labels)
        self.p, self.k, self.batches = p, k, batches
        self.by_class = [torch.nonzero(self.labels == c).flatten() for c in self.labels.unique().tolist()]

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            batch = []
            for c in torch.randperm(len(self.by_class))[: self.p].tolist():
                members = self.by_class[c]
                batch.append(members[torch.randperm(len(members))[: self.k]])
            batch = torch.cat(batch)
            yield batch[torch.randperm(len(batch))].tolist()


class Center:
    """Pixels between 0 and 1 to about -1.7 ... 1.7."""

    def __call__(self, image):
        return (image - 0.5) / 0.25


class EmbeddingNet(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(48, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(),
        )  # fmt: skip
        self.fc = nn.Linear(48 * 4 * 4, dim)

    def forward(self, x):
        return F.normalize(self.fc(self.conv(x).flatten(1)), dim=1)


class BatchAllTripletLoss(nn.Module):
    """Mean over all triplets (anchor, positive, negative) of a batch."""

    def __init__(self, margin=0.4):
        super().__init__()
        self.margin = margin

    def forward(self, embeddings, labels):
        same = labels[:, None] == labels[None, :]
        other = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        valid = (same & other)[:, :, None] & ~same[:, None, :]
        dist = 2 - 2 * embeddings @ embeddings.T  # squared distances of unit vectors
        cost = F.relu(dist[:, :, None] - dist[:, None, :] + self.margin)
        return (cost * valid).sum() / valid.sum()


@torch.no_grad()
def embed(model, loader, device):
    model.eval()
    vectors, labels = [], []
    for x, y in loader:
        vectors.append(model(x.to(device)).cpu())
        labels.append(y)
    return torch.cat(vectors), torch.cat(labels)


def recall_at_1(query, query_labels, gallery, gallery_labels):
    nearest = (query @ gallery.T).argmax(dim=1)
    return (gallery_labels[nearest] == query_labels).float().mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--p", type=int, default=6)
    parser.add_argument("--k", type=int, default=6)
    parser.add_argument("--batches", type=int, default=25, help="batches in an epoch")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--margin", type=float, default=0.4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    train_set = Shapes(train=True, transform=Center())
    valid_set = Shapes(train=False, transform=Center())
    sampler = PKSampler(train_set.targets, args.p, args.k, args.batches)
    train_loader = DataLoader(train_set, batch_sampler=sampler)
    gallery_loader = DataLoader(train_set, batch_size=150)
    valid_loader = DataLoader(valid_set, batch_size=120)

    model = EmbeddingNet().to(device)
    criterion = BatchAllTripletLoss(args.margin)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs, eta_min=args.lr / 20)

    print("classes:", ", ".join(NAMES))
    for epoch in range(1, args.epochs + 1):
        model.train()
        losses = []
        for images, labels in train_loader:
            images, labels = images.to(device), labels.to(device)
            loss = criterion(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        scheduler.step()
        gallery, gallery_labels = embed(model, gallery_loader, device)
        query, query_labels = embed(model, valid_loader, device)
        recall = recall_at_1(query, query_labels, gallery, gallery_labels)
        print(f"epoch {epoch:2d}  loss {torch.stack(losses).mean():.4f}  recall@1 {recall:.3f}")


if __name__ == "__main__":
    main()
