"""Supervised contrastive embeddings (Khosla et al., 2020) of colored shapes.

No classifier is trained. Test images are named by their nearest neighbor among the embedded training images.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Sampler

from toydata import Shapes


@dataclass
class Config:
    classes_per_batch: int = 6
    images_per_class: int = 8
    batches: int = 18
    epochs: int = 14
    width: int = 32
    embedding: int = 24
    temperature: float = 0.15
    lr: float = 2e-3
    seed: int = 3


class ClassBalancedBatches(Sampler):
    """P classes, K different images of each: every anchor has K - 1 positives."""

    def __init__(self, targets, cfg):
        targets = np.asarray(targets)
        self.pools = [np.flatnonzero(targets == c) for c in np.unique(targets)]
        self.cfg = cfg
        self.rng = np.random.default_rng(cfg.seed)

    def __len__(self):
        return self.cfg.batches

    def __iter__(self):
        for _ in range(self.cfg.batches):
            chosen = self.rng.choice(len(self.pools), self.cfg.classes_per_batch, replace=False)
            rows = [self.rng.choice(self.pools[c], self.cfg.images_per_class, replace=False) for c in chosen]
            yield np.concatenate(rows).tolist()


class Encoder(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        w = cfg.width

        def block(cin, cout, stride):
            return nn.Sequential(
                nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True)
            )

        self.trunk = nn.Sequential(block(3, w, 1), block(w, w, 2), block(w, 2 * w, 1), block(2 * w, 2 * w, 2))
        self.head = nn.Linear(2 * w, cfg.embedding)

    def forward(self, x):
        x = self.trunk(x).mean(dim=(2, 3))
        return F.normalize(self.head(x), dim=1)


def contrastive(z, labels, temperature):
    similarity = z @ z.T
    logits = similarity / temperature
    itself = torch.eye(len(z), dtype=torch.bool)
    positive = (labels[:, None] == labels[None, :]) & ~itself
    log_prob = logits - logits.masked_fill(itself, float("-inf")).logsumexp(dim=1, keepdim=True)
    per_anchor = (log_prob * positive).sum(1) / positive.sum(1)
    return -per_anchor.mean()


def augment(images):
    # All six kinds look the same in a mirror, so each image may be turned over on its own.
    flip = torch.rand(len(images)) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(-1), images)
    return images + 0.02 * torch.randn_like(images)


def scale(images):
    return (images - 0.5) / 0.25


@torch.no_grad()
def embed(encoder, dataset):
    encoder.eval()
    loader = DataLoader(dataset, batch_size=128)
    pairs = [(encoder(scale(x)), y) for x, y in loader]
    return torch.cat([z for z, _ in pairs]), torch.cat([y for _, y in pairs])


def recall_at_one(encoder, gallery, queries):
    zg, yg = embed(encoder, gallery)
    zq, yq = embed(encoder, queries)
    nearest = (zq @ zg.T).argmax(dim=1)
    return (yg[nearest] == yq).float().mean().item()


def main(cfg):
    torch.manual_seed(cfg.seed)
    train_set, test_set = Shapes(train=True), Shapes(train=False)
    loader = DataLoader(train_set, batch_sampler=ClassBalancedBatches(train_set.targets, cfg))

    encoder = Encoder(cfg)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=cfg.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, cfg.epochs)

    for epoch in range(cfg.epochs):
        encoder.train()
        losses = []
        for images, labels in loader:
            z = encoder(scale(augment(images)))
            loss = contrastive(z, labels, cfg.temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        schedule.step()
        print(f"epoch {epoch:2d}  loss {torch.stack(losses).mean():.3f}")
        if epoch % 3 == 1 or epoch == cfg.epochs - 1:
            print(f"          recall@1 {recall_at_one(encoder, train_set, test_set):.3f}")


if __name__ == "__main__":
    main(Config())
