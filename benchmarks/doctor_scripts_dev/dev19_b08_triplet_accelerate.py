"""Digits that look alike lie close together: a triplet network, trained with Accelerate, judged by retrieval."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Dataset

from toydata import Digits


def transform(image):
    return (image.float() / 255 - 0.25) / 0.33


class TripletDigits(Dataset):
    """An anchor, another image of its class, and an image of another class."""

    def __init__(self, base):
        self.base = base
        self.of_class = [torch.where(base.targets == c)[0] for c in range(10)]
        self.of_others = [torch.where(base.targets != c)[0] for c in range(10)]

    def __len__(self):
        return len(self.base)

    @staticmethod
    def pick(indices):
        return int(indices[torch.randint(len(indices), ())])

    def __getitem__(self, index):
        anchor, label = self.base[index]
        positive = self.base[self.pick(self.of_class[label])][0]
        negative = self.base[self.pick(self.of_others[label])][0]
        return anchor, positive, negative


class EmbeddingNet(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Dropout(0.1), nn.Linear(32 * 4 * 4, 128), nn.ReLU(), nn.Dropout(0.1),
        )
        self.project = nn.Linear(128, dim)

    def forward(self, x):
        return F.normalize(self.project(self.features(x)), dim=1)


class TripletLoss(nn.Module):
    def __init__(self, margin=0.5):
        super().__init__()
        self.margin = margin

    def distance(self, a, b):
        return (a - b).pow(2).sum(1)

    def forward(self, anchor, positive, negative):
        d_pos = self.distance(anchor, positive)
        d_neg = self.distance(anchor, negative)
        return F.relu(d_pos - d_neg + self.margin).mean()


@torch.no_grad()
def recall_at_1(model, loader, accelerator):
    """How often the nearest of the other validation images shows the same digit."""
    model.eval()
    embeddings, labels = [], []
    for images, targets in loader:
        out, targets = accelerator.gather_for_metrics((model(images), targets))
        embeddings.append(out)
        labels.append(targets)
    embeddings, labels = torch.cat(embeddings), torch.cat(labels)
    distance = torch.cdist(embeddings, embeddings)
    distance.fill_diagonal_(float("inf"))
    nearest = distance.argmin(dim=1)
    return (labels[nearest] == labels).float().mean().item()


def main():
    accelerator = Accelerator(cpu=True)
    set_seed(5)

    train_base = Digits(train=True, count=1600, transform=transform, noise=0.3)
    valid_base = Digits(train=False, count=400, transform=transform, noise=0.3)
    train_loader = DataLoader(TripletDigits(train_base), batch_size=64, shuffle=True, drop_last=True)
    valid_loader = DataLoader(valid_base, batch_size=100)

    epochs = 25
    model = EmbeddingNet()
    criterion = TripletLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    model, optimizer, train_loader, valid_loader = accelerator.prepare(model, optimizer, train_loader, valid_loader)

    accelerator.print(f"untrained: recall@1 {recall_at_1(model, valid_loader, accelerator):.4f}")
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for anchor, positive, negative in train_loader:
            a, p, n = model(anchor), model(positive), model(negative)
            loss = criterion(a, p, n)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            total += loss.item()
        recall = recall_at_1(model, valid_loader, accelerator)
        accelerator.print(f"epoch {epoch:2d}  loss {total / len(train_loader):.4f}  recall@1 {recall:.4f}")


if __name__ == "__main__":
    main()
