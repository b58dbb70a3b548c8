"""Supervised contrastive learning of digits, evaluated by nearest neighbors in the embedding."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits


class TwoViews(Dataset):
    """Each sample twice, with different noise and shift."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def view(self, image):
        top, left = torch.randint(0, 3, (2,)).tolist()
        image = F.pad(image, (1, 1, 1, 1))[:, top : top + 16, left : left + 16]
        return (image + 0.05 * torch.randn_like(image) - 0.2) / 0.35

    def __getitem__(self, index):
        return self.view(self.images[index]), self.view(self.images[index]), self.labels[index]


class Encoder(nn.Module):
    def __init__(self, width=64, out=24):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(512, width), nn.ReLU(),
        )  # fmt: skip
        self.projection = nn.Linear(width, out)

    def forward(self, x):
        return F.normalize(self.projection(self.features(x)), dim=1)


class SupConLoss(nn.Module):
    def __init__(self, temperature=0.2):
        super().__init__()
        self.temperature = temperature

    def forward(self, embedding, labels):
        similarity = embedding @ embedding.t() / self.temperature
        itself = torch.eye(len(labels), dtype=torch.bool)
        positive = (labels[:, None] == labels[None]) & ~itself
        log_share = similarity - similarity.masked_fill(itself, float("-inf")).logsumexp(1, keepdim=True)
        return -((log_share * positive).sum(1) / positive.sum(1)).mean()


@torch.no_grad()
def knn_accuracy(model, bank, bank_labels, queries, labels, k=5):
    model.eval()
    similarity = model(queries) @ model(bank).t()
    votes = bank_labels[similarity.topk(k, dim=1).indices]
    return (votes.mode(1).values == labels).float().mean().item()


def main():
    torch.manual_seed(0)
    images, labels = draw_digits(1600, seed=0)
    val_images, val_labels = draw_digits(400, seed=1)
    images, val_images = images.float() / 255, val_images.float() / 255
    loader = DataLoader(TwoViews(images, labels), batch_size=50, shuffle=True, drop_last=True)
    model, criterion = Encoder(), SupConLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1.5e-3)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    bank, queries = (images - 0.2) / 0.35, (val_images - 0.2) / 0.35
    for epoch in range(16):
        model.train()
        total = 0.0
        for first, second, target in loader:
            embedding = model(torch.cat([first, second]))
            loss = criterion(embedding, torch.cat([target, target]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        scheduler.step()
        accuracy = knn_accuracy(model, bank, labels, queries, val_labels)
        print(f"epoch {epoch + 1:2d} contrastive loss {total / len(loader):.3f} 5-nn accuracy {accuracy:.3f}")


main()
