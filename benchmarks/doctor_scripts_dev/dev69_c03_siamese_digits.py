"""Siamese network with contrastive loss on small handwritten digits.

Reference: Hadsell, Chopra, LeCun, "Dimensionality Reduction by Learning an
Invariant Mapping", CVPR 2006.
"""
import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split


class SiamesePairs(Dataset):
    """For every image a partner is drawn: the same digit (target 1) or another digit (target 0).

    With ``fixed=True`` the partners are drawn once, for validation and test.
    """

    def __init__(self, dataset, fixed=False, seed=0):
        self.images = torch.stack([dataset[i][0] for i in range(len(dataset))])
        self.labels = np.array([int(dataset[i][1]) for i in range(len(dataset))])
        self.label_to_indices = {c: np.where(self.labels == c)[0] for c in np.unique(self.labels)}
        self.rng = np.random.RandomState(seed)
        self.pairs = [self.draw_partner(i) for i in range(len(self.labels))] if fixed else None

    def draw_partner(self, index):
        label = self.labels[index]
        if self.rng.rand() < 0.5:
            return self.rng.choice(self.label_to_indices[label])
        other = self.rng.choice([c for c in self.label_to_indices if c != label])
        return self.rng.choice(self.label_to_indices[other])

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        partner = self.pairs[index] if self.pairs is not None else self.draw_partner(index)
        target = float(self.labels[index] == self.labels[partner])
        return self.images[index], self.images[partner], target


class EmbeddingNet(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.convnet = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.PReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.PReLU(), nn.MaxPool2d(2))
        self.fc = nn.Sequential(nn.Linear(64 * 2 * 2, 128), nn.PReLU(), nn.Linear(128, dim))

    def forward(self, x):
        return self.fc(self.convnet(x).flatten(1))


def euclidean_distance(a, b):
    return (a - b).pow(2).sum(dim=1).add(1e-12).sqrt()


class SiameseNet(nn.Module):
    def __init__(self, embedding_net):
        super().__init__()
        self.embedding_net = embedding_net

    def forward(self, x1, x2):
        emb1, emb2 = self.embedding_net(torch.cat([x1, x2])).chunk(2)
        return euclidean_distance(emb1, emb2)


class ContrastiveLoss(nn.Module):
    def __init__(self, margin):
        super().__init__()
        self.margin = margin

    def forward(self, distance, target):
        losses = target * distance.pow(2) + (1 - target) * F.relu(self.margin - distance).pow(2)
        return 0.5 * losses.mean()


def train(model, device, loader, criterion, optimizer):
    model.train()
    total = 0.0
    for x1, x2, target in loader:
        x1, x2, target = x1.to(device), x2.to(device), target.float().to(device)
        loss = criterion(model(x1, x2), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(target)
    return total / len(loader.dataset)


@torch.no_grad()
def test(model, device, loader, criterion):
    model.eval()
    total, correct = 0.0, 0
    for x1, x2, target in loader:
        x1, x2, target = x1.to(device), x2.to(device), target.float().to(device)
        distance = model(x1, x2)
        total += criterion(distance, target).item() * len(target)
        pred = (distance < 0.5 * criterion.margin).float()
        correct += (pred == target).sum().item()
    return total / len(loader.dataset), correct / len(loader.dataset)


@torch.no_grad()
def nearest_neighbour_accuracy(model, device, gallery, queries):
    """Label every query with the label of the closest image of the gallery."""
    model.eval()
    gallery_emb = model.embedding_net(gallery.images.to(device))
    query_emb = model.embedding_net(queries.images.to(device))
    nearest = torch.cdist(query_emb, gallery_emb).argmin(dim=1).cpu().numpy()
    return (gallery.labels[nearest] == queries.labels).mean()


def main():
    parser = argparse.ArgumentParser(description="Siamese digits")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--gamma", type=float, default=0.2)
    parser.add_argument("--margin", type=float, default=1.0)
    parser.add_argument("--dim", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16.0
    dataset = TensorDataset(images, torch.tensor(digits.target))
    train_set, val_set, test_set = random_split(dataset, [0.2, 0.2, 0.6])

    train_pairs = SiamesePairs(train_set, seed=args.seed)
    val_pairs = SiamesePairs(val_set, fixed=True, seed=args.seed + 1)
    test_pairs = SiamesePairs(test_set, fixed=True, seed=args.seed + 2)
    train_loader = DataLoader(train_pairs, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_pairs, batch_size=256)
    test_loader = DataLoader(test_pairs, batch_size=256)

    model = SiameseNet(EmbeddingNet(args.dim)).to(device)
    criterion = ContrastiveLoss(args.margin)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=12, gamma=args.gamma)

    for epoch in range(1, args.epochs + 1):
        train_loss = train(model, device, train_loader, criterion, optimizer)
        val_loss, val_acc = test(model, device, val_loader, criterion)
        scheduler.step()
        print(f"Epoch {epoch:2d}  train loss {train_loss:.4f}  val loss {val_loss:.4f}  val acc {val_acc:.4f}")

    test_loss, test_acc = test(model, device, test_loader, criterion)
    recall = nearest_neighbour_accuracy(model, device, train_pairs, test_pairs)
    print(f"Test: loss {test_loss:.4f}, pair accuracy {test_acc:.4f}, 1-NN accuracy {recall:.4f}")


if __name__ == "__main__":
    main()
