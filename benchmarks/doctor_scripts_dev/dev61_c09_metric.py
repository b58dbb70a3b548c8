"""Metric learning with triplets within batches of P classes by K images, in the manner of adambielski/siamese-triplet."""
import argparse
import copy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torch.utils.data.sampler import BatchSampler

from toydata import Digits


def to_input(image):
    return image.float() / 127.5 - 0.35


class BalancedBatchSampler(BatchSampler):
    """Draws n_classes classes, and n_samples images of each; images of a class are used up before they come again."""

    def __init__(self, labels, n_classes, n_samples):
        self.labels = np.asarray(labels)
        self.classes = np.unique(self.labels)
        self.indices = {label: np.flatnonzero(self.labels == label) for label in self.classes}
        for label in self.classes:
            np.random.shuffle(self.indices[label])
        self.used = dict.fromkeys(self.classes, 0)
        self.n_classes, self.n_samples = n_classes, n_samples

    def draw(self, label):
        if self.used[label] + self.n_samples > len(self.indices[label]):
            np.random.shuffle(self.indices[label])
            self.used[label] = 0
        start = self.used[label]
        self.used[label] += self.n_samples
        return self.indices[label][start : start + self.n_samples].tolist()

    def __iter__(self):
        for _ in range(len(self)):
            batch = []
            for label in np.random.choice(self.classes, self.n_classes, replace=False):
                batch.extend(self.draw(label))
            yield batch

    def __len__(self):
        return len(self.labels) // (self.n_classes * self.n_samples)


class EmbeddingNet(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.convnet = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.PReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.PReLU(), nn.MaxPool2d(2),
        )
        self.fc = nn.Sequential(nn.Linear(32 * 4 * 4, 64), nn.PReLU(), nn.Linear(64, dim))

    def forward(self, x):
        return F.normalize(self.fc(self.convnet(x).flatten(1)), dim=1)


class BatchAllTripletLoss(nn.Module):
    """The mean hinge of all triplets (anchor, positive, negative) of a batch that still violate the margin."""

    def __init__(self, margin):
        super().__init__()
        self.margin = margin

    def forward(self, z, labels):
        same = labels[:, None] == labels[None, :]
        positive = same & ~torch.eye(len(z), dtype=torch.bool, device=z.device)
        valid = positive[:, :, None] & ~same[:, None, :]
        dist = 2 - 2 * z @ z.T
        hinge = F.relu(dist[:, :, None] - dist[:, None, :] + self.margin)
        hinge = hinge[valid]
        active = (hinge > 0).sum()
        return hinge.sum() / active.clamp(min=1), active.item() / max(1, len(hinge))


@torch.no_grad()
def embed(model, loader):
    model.eval()
    outputs, labels = [], []
    for images, target in loader:
        outputs.append(model(images))
        labels.append(target)
    return torch.cat(outputs), torch.cat(labels)


def recall_at(embeddings, labels, ks=(1, 4)):
    similarity = embeddings @ embeddings.T
    similarity.fill_diagonal_(-float("inf"))
    neighbors = labels[similarity.topk(max(ks), dim=1).indices]
    return [(neighbors[:, :k] == labels[:, None]).any(dim=1).float().mean().item() for k in ks]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--classes", type=int, default=8)
    parser.add_argument("--samples", type=int, default=6)
    parser.add_argument("--margin", type=float, default=0.4)
    parser.add_argument("--lr", type=float, default=2e-3)
    args = parser.parse_args()
    torch.manual_seed(0)
    np.random.seed(0)

    train_set = Digits(train=True, transform=to_input)
    val_set = Digits(train=False, transform=to_input)
    sampler = BalancedBatchSampler(train_set.targets.numpy(), args.classes, args.samples)
    train_loader = DataLoader(train_set, batch_sampler=sampler)
    val_loader = DataLoader(val_set, batch_size=100)

    model = EmbeddingNet()
    criterion = BatchAllTripletLoss(args.margin)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=6, gamma=0.3)

    best, best_state = 0.0, None
    for epoch in range(1, args.epochs + 1):
        model.train()
        losses, shares = [], []
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss, share = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            shares.append(share)
        scheduler.step()
        r1, r4 = recall_at(*embed(model, val_loader))
        print(f"epoch {epoch}: loss {np.mean(losses):.4f}, active {np.mean(shares):.3f}, R@1 {r1:.4f}, R@4 {r4:.4f}")
        if r1 > best:
            best, best_state = r1, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    print(f"best R@1 {best:.4f}")


if __name__ == "__main__":
    main()
