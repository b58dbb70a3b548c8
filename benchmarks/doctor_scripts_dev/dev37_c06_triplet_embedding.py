"""Embeddings of digits by triplets: retrieval (recall@1) and verification (ROC AUC)."""
import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits


@dataclass
class ExperimentConfig:
    seed: int = 2024
    train_size: int = 1200
    val_size: int = 250
    test_size: int = 300
    dim: int = 32
    margin: float = 0.5
    batch_size: int = 60
    epochs: int = 12
    lr: float = 1e-3


class TripletDataset(Dataset):
    def __init__(self, images, labels):
        self.images, self.labels = images, labels
        self.members = [torch.nonzero(labels == k).flatten() for k in range(10)]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, anchor):
        label = int(self.labels[anchor])
        same = self.members[label]
        positive = int(same[torch.randint(len(same) - 1, ())])
        if positive == anchor:
            positive = int(same[-1])
        others = self.members[(label + int(torch.randint(1, 10, ()))) % 10]
        negative = int(others[torch.randint(len(others), ())])
        return self.images[anchor], self.images[positive], self.images[negative]


class Embedder(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * 4 * 4, 128), nn.ReLU(),
        )
        self.project = nn.Linear(128, dim)

    def forward(self, x):
        return F.normalize(self.project(self.trunk(x)), dim=1)


class Experiment:
    def __init__(self, cfg: ExperimentConfig):
        self.cfg = cfg
        torch.manual_seed(cfg.seed)
        images, labels = draw_digits(cfg.train_size + cfg.val_size, seed=5)
        images = images.float() / 255
        mean, std = images[: cfg.train_size].mean(), images[: cfg.train_size].std()
        images = (images - mean) / std
        self.train_images, self.train_labels = images[: cfg.train_size], labels[: cfg.train_size]
        self.val_images, self.val_labels = images[cfg.train_size :], labels[cfg.train_size :]
        test_images, self.test_labels = draw_digits(cfg.test_size, seed=6)
        self.test_images = (test_images.float() / 255 - mean) / std

        self.loader = DataLoader(
            TripletDataset(self.train_images, self.train_labels), batch_size=cfg.batch_size, shuffle=True
        )
        self.net = Embedder(cfg.dim)
        self.criterion = nn.TripletMarginLoss(margin=cfg.margin)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=cfg.lr)

    @torch.no_grad()
    def embed(self, images):
        self.net.eval()
        return torch.cat([self.net(chunk) for chunk in images.split(200)])

    def recall_at_1(self, images, labels):
        gallery, queries = self.embed(self.train_images), self.embed(images)
        nearest = (queries @ gallery.T).argmax(dim=1)
        return (self.train_labels[nearest] == labels).float().mean().item()

    def pair_auc(self, images, labels):
        vectors = self.embed(images)
        first, second = torch.triu_indices(len(labels), len(labels), offset=1)
        scores = (vectors[first] * vectors[second]).sum(dim=1)
        return roc_auc_score((labels[first] == labels[second]).numpy(), scores.numpy())

    def train_epoch(self):
        self.net.train()
        losses = []
        for anchor, positive, negative in self.loader:
            a, p, n = self.net(torch.cat([anchor, positive, negative])).chunk(3)
            loss = self.criterion(a, p, n)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return float(np.mean(losses))

    def run(self):
        best_recall, best_state = -1.0, None
        for epoch in range(self.cfg.epochs):
            loss = self.train_epoch()
            recall = self.recall_at_1(self.val_images, self.val_labels)
            if recall > best_recall:
                best_recall, best_state = recall, copy.deepcopy(self.net.state_dict())
            print(f"[{epoch:02d}] triplet loss {loss:.4f} | val R@1 {recall:.3f}")
        self.net.load_state_dict(best_state)
        print(f"test R@1 {self.recall_at_1(self.test_images, self.test_labels):.3f}")
        print(f"test pair AUC {self.pair_auc(self.test_images, self.test_labels):.3f}")


if __name__ == "__main__":
    Experiment(ExperimentConfig()).run()
