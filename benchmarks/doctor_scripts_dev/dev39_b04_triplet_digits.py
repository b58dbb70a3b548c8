"""Metric learning on digits: an embedding network trained with triplets, judged by retrieval."""

import random
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits


@dataclass
class ExperimentConfig:
    seed: int = 42
    embed_dim: int = 32
    dropout: float = 0.1
    margin: float = 0.5
    erase: float = 0.25  # side of the erased square, as a share of the image's
    batch_size: int = 64
    epochs: int = 8
    lr: float = 1e-3


def to_float(images):
    return (images.float() / 255 - 0.2) / 0.35


class RandomShiftAndErase:
    def __init__(self, erase):
        self.erase = erase

    def __call__(self, image):
        dy, dx = random.randint(-1, 1), random.randint(-1, 1)
        image = torch.roll(image, shifts=(dy, dx), dims=(-2, -1)).clone()
        side = image.shape[-1]
        patch = max(1, int(self.erase * side))
        top, left = random.randint(0, side - patch), random.randint(0, side - patch)
        image[..., top : top + patch, left : left + patch] = 0.0
        return image


class TripletDigits(Dataset):
    """Item i: image i, another of its class, and one of any other class."""

    def __init__(self, images, labels, transform):
        self.images, self.labels, self.transform = to_float(images), labels.numpy(), transform
        self.by_label = {int(c): np.flatnonzero(self.labels == c).tolist() for c in np.unique(self.labels)}

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        label = int(self.labels[index])
        partner = index
        while partner == index:
            partner = random.choice(self.by_label[label])
        other = random.choice([c for c in self.by_label if c != label])
        stranger = random.choice(self.by_label[other])
        return tuple(self.transform(self.images[i]) for i in (index, partner, stranger))


class EmbeddingNet(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.projector = nn.Sequential(
            nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Dropout(cfg.dropout), nn.Linear(64, cfg.embed_dim)
        )

    def forward(self, x):
        return F.normalize(self.projector(self.features(x)), dim=1)


@torch.no_grad()
def retrieval_scores(net, images, labels):
    net.eval()
    embeddings = torch.cat([net(chunk) for chunk in to_float(images).split(100)])
    similarity = embeddings @ embeddings.T
    rows, cols = torch.triu_indices(len(labels), len(labels), offset=1)
    auc = roc_auc_score((labels[rows] == labels[cols]).numpy(), similarity[rows, cols].numpy())
    similarity.fill_diagonal_(-2.0)
    nearest = similarity.argmax(dim=1)
    return (labels[nearest] == labels).float().mean().item(), float(auc)


def train_one_epoch(net, loader, criterion, optimizer):
    net.train()
    total, seen = 0.0, 0
    for anchor, positive, negative in loader:
        stacked = net(torch.cat([anchor, positive, negative]))
        emb_a, emb_p, emb_n = stacked.chunk(3)
        loss = criterion(emb_a, emb_p, emb_n)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(anchor)
        seen += len(anchor)
    return total / seen


def run(cfg):
    random.seed(cfg.seed)
    np.random.seed(cfg.seed)
    torch.manual_seed(cfg.seed)

    train_images, train_labels = draw_digits(1200, seed=0)
    val_images, val_labels = draw_digits(300, seed=1)
    test_images, test_labels = draw_digits(300, seed=2)

    dataset = TripletDigits(train_images, train_labels, RandomShiftAndErase(cfg.erase))
    loader = DataLoader(dataset, batch_size=cfg.batch_size, shuffle=True, drop_last=True)
    net = EmbeddingNet(cfg)
    criterion = nn.TripletMarginLoss(margin=cfg.margin)
    optimizer = torch.optim.Adam(net.parameters(), lr=cfg.lr)

    best_recall = -1.0
    best_weights = None
    for epoch in range(1, cfg.epochs + 1):
        train_loss = train_one_epoch(net, loader, criterion, optimizer)
        recall, auc = retrieval_scores(net, val_images, val_labels)
        print(f"[{epoch}/{cfg.epochs}] triplet loss {train_loss:.4f}  val recall@1 {recall:.3f}  val auc {auc:.3f}")
        if recall > best_recall:
            best_recall = recall
            best_weights = deepcopy(net.state_dict())

    net.load_state_dict(best_weights)
    recall, auc = retrieval_scores(net, test_images, test_labels)
    print(f"test: recall@1 {recall:.3f}, auc of pairs {auc:.3f}")


if __name__ == "__main__":
    run(ExperimentConfig())
