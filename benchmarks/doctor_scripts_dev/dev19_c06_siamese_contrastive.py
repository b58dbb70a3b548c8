"""Siamese network with the contrastive loss of Hadsell et al.: are two digits the same? Threshold set on training pairs."""

import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits

MARGIN = 1.0


class PairDataset(Dataset):
    """Half of the pairs show the same digit. Training pairs are drawn anew each time, test pairs once."""

    def __init__(self, images, labels, train):
        self.images = (images.float() / 255 - 0.25) / 0.35
        self.labels = labels
        self.train = train
        self.by_class = {c: (labels == c).nonzero().flatten().tolist() for c in range(10)}
        if not train:
            rng = random.Random(29)
            self.pairs = [self._draw(i, rng) for i in range(len(labels))]

    def _draw(self, i, rng):
        own, same = int(self.labels[i]), rng.random() < 0.5
        if same:
            j = i
            while j == i:
                j = rng.choice(self.by_class[own])
        else:
            j = rng.choice(self.by_class[rng.choice([c for c in range(10) if c != own])])
        return i, j, float(same)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        a, b, same = self._draw(i, random) if self.train else self.pairs[i]
        return self.images[a], self.images[b], torch.tensor(same)


class EmbeddingNet(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.convnet = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1),
            nn.PReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1),
            nn.PReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(48, 48, 3, padding=1),
            nn.PReLU(),
        )
        self.fc = nn.Sequential(nn.Flatten(), nn.Linear(48 * 16, 96), nn.PReLU(), nn.Linear(96, dim))

    def forward(self, x):
        return F.normalize(self.fc(self.convnet(x)), dim=1)


class SiameseNet(nn.Module):
    def __init__(self, embedding_net):
        super().__init__()
        self.embedding_net = embedding_net

    def forward(self, x1, x2):
        return self.embedding_net(x1), self.embedding_net(x2)


class ContrastiveLoss(nn.Module):
    def __init__(self, margin):
        super().__init__()
        self.margin = margin

    def forward(self, output1, output2, target):
        squared = (output2 - output1).pow(2).sum(1)
        distance = (squared + 1e-9).sqrt()
        losses = 0.5 * (target * squared + (1 - target) * F.relu(self.margin - distance).pow(2))
        return losses.mean()


@torch.no_grad()
def distances(net, loader):
    net.eval()
    d, t = [], []
    for a, b, same in loader:
        e1, e2 = net(a, b)
        d.append((e1 - e2).norm(dim=1))
        t.append(same)
    return torch.cat(d), torch.cat(t).bool()


def best_threshold(d, same):
    candidates = torch.linspace(0.05, 1.5, 60)
    accuracies = torch.stack([((d < c) == same).float().mean() for c in candidates])
    return float(candidates[accuracies.argmax()])


@torch.no_grad()
def one_shot(net, gallery, gallery_labels, images, labels):
    """Nearest of ten stored digits, one of each class."""
    net.eval()
    nearest = torch.cdist(net.embedding_net(images), net.embedding_net(gallery)).argmin(1)
    return (gallery_labels[nearest] == labels).float().mean().item()


def main():
    random.seed(0)
    torch.manual_seed(0)
    train_set = PairDataset(*draw_digits(2000, seed=20), train=True)
    test_set = PairDataset(*draw_digits(500, seed=21), train=False)
    train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=250)
    gallery_index = torch.tensor([train_set.by_class[c][0] for c in range(10)])

    net = SiameseNet(EmbeddingNet())
    criterion = ContrastiveLoss(MARGIN)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 8, gamma=0.3)

    for epoch in range(1, 21):
        net.train()
        total = 0.0
        for a, b, same in train_loader:
            optimizer.zero_grad()
            loss = criterion(*net(a, b), same)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(same)
        scheduler.step()
        threshold = best_threshold(*distances(net, train_loader))
        d, same = distances(net, test_loader)
        verification = ((d < threshold) == same).float().mean().item()
        shot = one_shot(net, train_set.images[gallery_index], train_set.labels[gallery_index], test_set.images, test_set.labels)
        print(f"Epoch {epoch:2d}: loss {total / len(train_set):.4f}  threshold {threshold:.2f}  verification {verification:.3f}  one-shot {shot:.3f}")


if __name__ == "__main__":
    main()
