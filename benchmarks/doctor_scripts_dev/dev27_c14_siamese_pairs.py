# Siamese network on pairs of digits with the contrastive loss.
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits

SEED = 17
random.seed(SEED)
torch.manual_seed(SEED)


class SiamesePairs(Dataset):
    """Half of the pairs show the same digit (label 1), half different ones (label 0)."""

    def __init__(self, images, labels, random_pairs=True):
        self.images, self.labels = images, labels
        self.by_label = {d: (labels == d).nonzero().flatten().tolist() for d in range(10)}
        self.random_pairs = random_pairs
        if not random_pairs:
            rng = random.Random(1)
            self.pairs = [self.draw(i, rng) for i in range(len(images))]

    def draw(self, i, rng):
        label = int(self.labels[i])
        same = rng.random() < 0.5
        other = label if same else rng.choice([d for d in range(10) if d != label])
        return i, rng.choice(self.by_label[other]), float(same)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        i, j, same = self.draw(index, random) if self.random_pairs else self.pairs[index]
        return self.images[i], self.images[j], torch.tensor(same)


class EmbeddingNet(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.convnet = nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2), nn.PReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.PReLU(), nn.MaxPool2d(2))
        self.fc = nn.Sequential(nn.Linear(32 * 16, 96), nn.PReLU(), nn.Linear(96, dim))

    def forward(self, x):
        return self.fc(self.convnet(x).flatten(1))


class SiameseNet(nn.Module):
    def __init__(self, embedding):
        super().__init__()
        self.embedding = embedding

    def forward(self, a, b):
        return self.embedding(a), self.embedding(b)


class ContrastiveLoss(nn.Module):
    def __init__(self, margin=1.5):
        super().__init__()
        self.margin = margin

    def forward(self, a, b, same):
        squared = (a - b).pow(2).sum(1)
        apart = F.relu(self.margin - (squared + 1e-8).sqrt()).pow(2)
        return 0.5 * (same * squared + (1 - same) * apart).mean()


def scale(images):
    return (images.float() / 255 - 0.155) / 0.29


train_images, train_labels = draw_digits(1200, seed=70)
val_images, val_labels = draw_digits(300, seed=71)
train_images, val_images = scale(train_images), scale(val_images)
train_loader = DataLoader(SiamesePairs(train_images, train_labels), batch_size=32, shuffle=True)
val_loader = DataLoader(SiamesePairs(val_images, val_labels, random_pairs=False), batch_size=100)

net = SiameseNet(EmbeddingNet())
criterion = ContrastiveLoss()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 8, gamma=0.5)


def pair_accuracy():
    net.eval()
    right = total = 0
    with torch.no_grad():
        for a, b, same in val_loader:
            ea, eb = net(a, b)
            near = (ea - eb).norm(dim=1) < criterion.margin / 2
            right += (near == same.bool()).sum().item()
            total += len(same)
    return right / total


def nearest_neighbor_accuracy():
    net.eval()
    with torch.no_grad():
        gallery, query = net.embedding(train_images), net.embedding(val_images)
        nearest = torch.cdist(query, gallery).argmin(1)
    return (train_labels[nearest] == val_labels).float().mean().item()


for epoch in range(1, 25):
    net.train()
    running = 0.0
    for a, b, same in train_loader:
        optimizer.zero_grad()
        loss = criterion(*net(a, b), same)
        loss.backward()
        optimizer.step()
        running += loss.item()
    scheduler.step()
    print(f"epoch {epoch} loss {running / len(train_loader):.4f} pairs {pair_accuracy():.3f} 1-NN {nearest_neighbor_accuracy():.3f}")
