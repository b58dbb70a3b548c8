"""Metric learning: supervised contrastive loss on batches of P classes x K images; measured by retrieval."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Sampler

from toydata import Digits


class PKSampler(Sampler):
    """Batches with K images of each of P classes."""

    def __init__(self, labels, p, k, batches):
        self.by_class = [torch.nonzero(labels == c).flatten() for c in range(int(labels.max()) + 1)]
        self.p, self.k, self.batches = p, k, batches

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            batch = []
            for c in torch.randperm(len(self.by_class))[: self.p].tolist():
                members = self.by_class[c]
                batch += members[torch.randperm(len(members))[: self.k]].tolist()
            yield batch


class Embedder(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(512, dim),
        )

    def forward(self, x):
        return F.normalize(self.net(x), dim=1)


class SupConLoss(nn.Module):
    def __init__(self, temperature=0.1):
        super().__init__()
        self.temperature = temperature

    def forward(self, embeddings, labels):
        similarity = embeddings @ embeddings.T / self.temperature
        itself = torch.eye(len(labels), dtype=torch.bool)
        positive = (labels[:, None] == labels[None, :]) & ~itself
        log_probability = similarity - similarity.masked_fill(itself, float("-inf")).logsumexp(1, keepdim=True)
        per_anchor = (log_probability * positive).sum(1) / positive.sum(1).clamp(min=1)
        return -per_anchor.mean()


@torch.no_grad()
def embed(model, dataset, transform):
    model.eval()
    return model(transform(dataset.data)), dataset.targets


def normalize(images):
    return (images.float() / 255 - 0.17) / 0.3


def retrieval(model, gallery, queries):
    keys, key_labels = embed(model, gallery, normalize)
    values, labels = embed(model, queries, normalize)
    order = (values @ keys.T).topk(10, dim=1).indices
    relevant = key_labels[order] == labels[:, None]
    return relevant[:, 0].float().mean().item(), relevant.float().mean().item()


def main():
    torch.manual_seed(0)
    train, val = Digits(True, transform=normalize), Digits(False, transform=normalize)
    loader = DataLoader(train, batch_sampler=PKSampler(train.targets, p=8, k=5, batches=40))
    model, criterion = Embedder(), SupConLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.85)
    for epoch in range(12):
        model.train()
        total = 0.0
        for images, labels in loader:
            loss = criterion(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        scheduler.step()
        recall, precision = retrieval(model, train, val)
        print(f"epoch {epoch:2d} loss {total / len(loader):.3f} recall@1 {recall:.3f} precision@10 {precision:.3f}")


if __name__ == "__main__":
    main()
