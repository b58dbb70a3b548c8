"""Supervised contrastive embeddings of digits. Batches hold the same number of images of each class."""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

from toydata import draw_digits


@dataclass
class Config:
    embedding: int = 32
    temperature: float = 0.15
    per_class: int = 8
    batches_per_epoch: int = 15
    epochs: int = 14
    lr: float = 2e-3
    weight_decay: float = 1e-4
    neighbors: int = 5
    seed: int = 17


class ClassBalancedBatches(Sampler):
    """Yields lists of indices: `per_class` of every class, walking through a new order of each when it ends."""

    def __init__(self, labels: Tensor, per_class: int, batches: int, seed: int):
        self.pools = [torch.nonzero(labels == c).flatten() for c in labels.unique()]
        self.per_class, self.batches = per_class, batches
        self.generator = torch.Generator().manual_seed(seed)
        self.queues = [torch.empty(0, dtype=torch.long) for _ in self.pools]

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            chosen = []
            for c, pool in enumerate(self.pools):
                if len(self.queues[c]) < self.per_class:
                    self.queues[c] = pool[torch.randperm(len(pool), generator=self.generator)]
                chosen.append(self.queues[c][: self.per_class])
                self.queues[c] = self.queues[c][self.per_class :]
            yield torch.cat(chosen).tolist()


class Encoder(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(),
        )  # fmt: skip
        self.project = nn.Sequential(nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.project(self.trunk(x)), dim=1)


class SupConLoss(nn.Module):
    def __init__(self, temperature: float):
        super().__init__()
        self.temperature = temperature

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        logits = embeddings @ embeddings.T / self.temperature
        itself = torch.eye(len(labels), dtype=torch.bool)
        positive = (labels[:, None] == labels[None, :]) & ~itself
        log_prob = logits - logits.masked_fill(itself, float("-inf")).logsumexp(dim=1, keepdim=True)
        return -((log_prob * positive).sum(dim=1) / positive.sum(dim=1)).mean()


@torch.no_grad()
def embed(model: nn.Module, images: Tensor) -> Tensor:
    model.eval()
    return torch.cat([model(chunk) for chunk in images.split(200)])


def knn_accuracy(queries, query_labels, gallery, gallery_labels, k):
    similarity = queries @ gallery.T
    nearest = similarity.topk(k, dim=1).indices
    votes = gallery_labels[nearest].mode(dim=1).values
    return (votes == query_labels).float().mean().item()


def run(cfg: Config) -> None:
    torch.manual_seed(cfg.seed)
    images, labels = draw_digits(1200, seed=5)
    test_images, test_labels = draw_digits(300, seed=6)
    images, test_images = images.float() / 255, test_images.float() / 255
    mean, std = images.mean(), images.std()
    images, test_images = (images - mean) / std, (test_images - mean) / std

    sampler = ClassBalancedBatches(labels, cfg.per_class, cfg.batches_per_epoch, cfg.seed)
    loader = DataLoader(TensorDataset(images, labels), batch_sampler=sampler)
    model, loss_fn = Encoder(cfg.embedding), SupConLoss(cfg.temperature)
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)

    for epoch in range(cfg.epochs):
        model.train()
        total = torch.zeros(())
        for x, y in loader:
            x = x + 0.1 * torch.randn_like(x)
            loss = loss_fn(model(x), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        accuracy = knn_accuracy(embed(model, test_images), test_labels, embed(model, images), labels, cfg.neighbors)
        print(f"[{epoch + 1:02d}/{cfg.epochs}] supcon={float(total) / len(loader):.3f} knn@{cfg.neighbors}={accuracy:.3f}")


if __name__ == "__main__":
    run(Config())
