"""Siamese network: do two pictures show the same digit?"""

import random

import numpy as np
import torch
from sklearn.metrics import roc_auc_score, roc_curve
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits


class PairDataset(Dataset):
    """Half of the pairs show the same digit. With fixed=True the pairs never change (validation, test)."""

    def __init__(self, images, labels, pairs, fixed=False, seed=0):
        self.images = (images.float() / 255 - 0.3) / 0.35
        self.labels = labels.tolist()
        self.by_label = {d: [i for i, l in enumerate(self.labels) if l == d] for d in set(self.labels)}
        self.pairs = pairs
        self.fixed = None
        if fixed:
            rng = random.Random(seed)
            self.fixed = [self.draw(rng, i % 2 == 0) for i in range(pairs)]

    def draw(self, rng, same):
        first = rng.randrange(len(self.labels))
        label = self.labels[first]
        if same:
            second = rng.choice([i for i in self.by_label[label] if i != first])
        else:
            other = rng.choice([d for d in self.by_label if d != label])
            second = rng.choice(self.by_label[other])
        return first, second, float(same)

    def __len__(self):
        return self.pairs

    def __getitem__(self, index):
        first, second, same = self.fixed[index] if self.fixed else self.draw(random, index % 2 == 0)
        return self.images[first], self.images[second], torch.tensor(same)


class Embedder(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.head = nn.Linear(32 * 16, dim)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


class SiameseNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedder = Embedder()

    def forward(self, a, b):
        both = self.embedder(torch.cat([a, b]))
        za, zb = both.chunk(2)
        return F.pairwise_distance(za, zb)


class ContrastiveLoss(nn.Module):
    def __init__(self, margin=2.0):
        super().__init__()
        self.margin = margin

    def forward(self, distance, same):
        positive = same * distance.pow(2)
        negative = (1 - same) * F.relu(self.margin - distance).pow(2)
        return (positive + negative).mean()


def train_one_epoch(model, criterion, optimizer, loader, device):
    model.train()
    running = 0.0
    for a, b, same in loader:
        a, b, same = a.to(device), b.to(device), same.to(device)
        loss = criterion(model(a, b), same)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running += loss.item() * len(same)
    return running / len(loader.dataset)


@torch.no_grad()
def predict(model, loader, device):
    model.eval()
    distances, truths = [], []
    for a, b, same in loader:
        distances.append(model(a.to(device), b.to(device)).cpu())
        truths.append(same)
    return torch.cat(distances).numpy(), torch.cat(truths).numpy()


def best_threshold(distances, truths):
    false_positive, true_positive, thresholds = roc_curve(truths, -distances)
    index = np.argmax(true_positive - false_positive)
    equal_error = false_positive[np.argmin(np.abs(false_positive - (1 - true_positive)))]
    return -thresholds[index], equal_error


def main():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    train_set = PairDataset(*draw_digits(1200, seed=0), pairs=2400)
    val_set = PairDataset(*draw_digits(300, seed=1), pairs=600, fixed=True, seed=1)
    test_set = PairDataset(*draw_digits(300, seed=2), pairs=600, fixed=True, seed=2)
    train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=200)
    test_loader = DataLoader(test_set, batch_size=200)

    model = SiameseNetwork().to(device)
    criterion = ContrastiveLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(1, 9):
        loss = train_one_epoch(model, criterion, optimizer, train_loader, device)
        distances, truths = predict(model, val_loader, device)
        threshold, equal_error = best_threshold(distances, truths)
        auc = roc_auc_score(truths, -distances)
        print(f"[{epoch}] loss {loss:.4f}  val auc {auc:.4f}  eer {equal_error:.4f}  threshold {threshold:.3f}")

    distances, truths = predict(model, test_loader, device)
    accuracy = ((distances <= threshold) == (truths == 1)).mean()
    print(f"test auc {roc_auc_score(truths, -distances):.4f}, accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
