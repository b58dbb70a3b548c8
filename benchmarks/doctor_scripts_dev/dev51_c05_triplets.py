"""Embeddings of digits from triplets, with batches of P classes times K images.

All triplets of a batch count, by a soft margin on cosines. Evaluation: nearest neighbors in the training set.
"""
from __future__ import annotations

import dataclasses

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Sampler, TensorDataset

import toydata


@dataclasses.dataclass
class ExperimentConfig:
    seed: int = 11
    classes_per_batch: int = 8
    images_per_class: int = 6
    batches_per_epoch: int = 24
    epochs: int = 8
    embedding_dim: int = 32
    temperature: float = 0.1
    learning_rate: float = 2e-3
    neighbors: int = 5


class PKBatchSampler(Sampler):
    """Each batch: P classes drawn without replacement, and of each class K images drawn without replacement."""

    def __init__(self, labels: torch.Tensor, p: int, k: int, batches: int, seed: int):
        labels = labels.numpy()
        self.members = {int(c): np.flatnonzero(labels == c) for c in np.unique(labels)}
        self.p, self.k, self.batches = p, k, batches
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self):
        classes = np.array(sorted(self.members))
        for _ in range(self.batches):
            chosen = self.rng.choice(classes, self.p, replace=False)
            yield [int(i) for c in chosen for i in self.rng.choice(self.members[int(c)], self.k, replace=False)]


class Embedder(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(),
        )
        self.project = nn.Linear(48 * 4 * 4, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.project(self.features(x).flatten(1)), dim=1)


def triplet_loss(embeddings: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    cosine = embeddings @ embeddings.T
    same = labels[:, None] == labels[None, :]
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    # excess[a, p, n]: by how much anchor a is closer to n, of another class, than to p, of its own.
    excess = (cosine[:, None, :] - cosine[:, :, None]) / temperature
    valid = positive[:, :, None] & ~same[:, None, :]
    return F.softplus(excess[valid]).mean()


class Experiment:
    def __init__(self, config: ExperimentConfig):
        self.config = config
        torch.manual_seed(config.seed)
        raw_gallery, self.gallery_labels = toydata.draw_digits(1000, seed=0)
        raw_query, self.query_labels = toydata.draw_digits(250, seed=1)
        mean, std = raw_gallery.float().mean(), raw_gallery.float().std()
        self.gallery = (raw_gallery.float() - mean) / std
        self.query = (raw_query.float() - mean) / std

        sampler = PKBatchSampler(
            self.gallery_labels,
            config.classes_per_batch,
            config.images_per_class,
            config.batches_per_epoch,
            config.seed,
        )
        self.loader = DataLoader(TensorDataset(self.gallery, self.gallery_labels), batch_sampler=sampler)
        self.model = Embedder(config.embedding_dim)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, config.epochs, eta_min=1e-4)

    def train_epoch(self) -> float:
        self.model.train()
        losses = []
        for images, labels in self.loader:
            loss = triplet_loss(self.model(images), labels, self.config.temperature)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.detach())
        self.scheduler.step()
        return torch.stack(losses).mean().item()

    @torch.no_grad()
    def embed(self, images: torch.Tensor) -> torch.Tensor:
        self.model.eval()
        return torch.cat([self.model(chunk) for chunk in images.split(200)])

    def evaluate(self) -> dict[str, float]:
        similarity = self.embed(self.query) @ self.embed(self.gallery).T
        nearest = self.gallery_labels[similarity.topk(self.config.neighbors, dim=1).indices]
        votes = nearest.mode(dim=1).values
        return {
            "recall@1": (nearest[:, 0] == self.query_labels).float().mean().item(),
            "knn": (votes == self.query_labels).float().mean().item(),
            "precision": (nearest == self.query_labels[:, None]).float().mean().item(),
        }

    def run(self) -> dict[str, float]:
        metrics = {}
        for epoch in range(1, self.config.epochs + 1):
            loss = self.train_epoch()
            metrics = self.evaluate()
            shown = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
            print(f"epoch {epoch:2d}: loss {loss:.4f}, {shown}")
        return metrics


if __name__ == "__main__":
    Experiment(ExperimentConfig()).run()
