"""Metric learning on digits, parameters and functions kept apart as in JAX code."""

from functools import partial
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.func import functional_call
from torch.utils.data import DataLoader, Sampler

from toydata import Digits


class Config(NamedTuple):
    seed: int = 3
    classes_per_batch: int = 10
    samples_per_class: int = 4
    epochs: int = 9
    lr: float = 2e-3
    margin: float = 1.0
    dim: int = 24
    noise: float = 20.0


class PKSampler(Sampler):
    """Batches of P classes with K samples each."""

    def __init__(self, targets, p, k):
        self.p, self.k = p, k
        self.pools = [torch.nonzero(targets == c).flatten() for c in targets.unique()]
        self.batches = len(targets) // (p * k)

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            batch = []
            for c in torch.randperm(len(self.pools))[: self.p].tolist():
                pool = self.pools[c]
                batch.append(pool[torch.randperm(len(pool))[: self.k]])
            yield torch.cat(batch).tolist()


class Embedder(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * 16, 96), nn.ReLU(),
        )
        self.head = nn.Linear(96, dim)

    def forward(self, x):
        return self.head(self.body(x))


def preprocess(images):
    """Bytes to numbers of mean 0 and variance 1, about."""
    return (images.float() / 255.0 - 0.2) / 0.3


def augment(images, generator, noise):
    """Sensor noise in gray levels, and a shift of a pixel."""
    dy, dx = torch.randint(-1, 2, (2,), generator=generator).tolist()
    images = torch.roll(images.float(), (dy, dx), dims=(-2, -1))
    images = images + noise * torch.randn(images.shape, generator=generator)
    return preprocess(images)


def embed(model, params, x):
    z = functional_call(model, params, (x,))
    return F.normalize(z, dim=1)


def pair_loss(z, labels, margin):
    """Hadsell et al. (2006): y = 0 for pairs that belong together, 1 for others."""
    off_diagonal = ~torch.eye(len(z), dtype=torch.bool)
    distance = (2.0 - 2.0 * z @ z.T).clamp(min=1e-6).sqrt()[off_diagonal]
    y = (labels[:, None] != labels[None, :]).float()[off_diagonal]
    pull = ((1.0 - y) * distance.square()).sum() / (1.0 - y).sum()
    push = (y * F.relu(margin - distance).square()).sum() / y.sum()
    return pull + push


def loss_fn(params, model, batch, generator, cfg):
    images, labels = batch
    z = embed(model, params, augment(images, generator, cfg.noise))
    return pair_loss(z, labels, cfg.margin)


def train_step(params, optimizer, loss_of, batch):
    loss = loss_of(params, batch=batch)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


@torch.no_grad()
def embed_all(model, params, loader):
    pairs = [(embed(model, params, preprocess(images)), labels) for images, labels in loader]
    return torch.cat([z for z, _ in pairs]), torch.cat([labels for _, labels in pairs])


def recall_at(z, labels, ks=(1, 5)):
    similarity = z @ z.T
    similarity.fill_diagonal_(-2.0)
    nearest = similarity.topk(max(ks), dim=1).indices
    hits = labels[nearest] == labels[:, None]
    return {k: hits[:, :k].any(1).float().mean().item() for k in ks}


def fit(model, params, optimizer, train_loader, valid_loader, generator, cfg):
    loss_of = partial(loss_fn, model=model, generator=generator, cfg=cfg)
    for epoch in range(cfg.epochs):
        losses = [train_step(params, optimizer, loss_of, batch) for batch in train_loader]
        recall = recall_at(*embed_all(model, params, valid_loader))
        yield epoch, torch.stack(losses).mean().item(), recall


def main(cfg=Config()):
    torch.manual_seed(cfg.seed)
    generator = torch.Generator().manual_seed(cfg.seed)
    train_set, valid_set = Digits(train=True), Digits(train=False)
    sampler = PKSampler(train_set.targets, cfg.classes_per_batch, cfg.samples_per_class)
    train_loader = DataLoader(train_set, batch_sampler=sampler)
    valid_loader = DataLoader(valid_set, batch_size=100)

    model = Embedder(cfg.dim)
    params = dict(model.named_parameters())
    optimizer = torch.optim.Adam(params.values(), lr=cfg.lr)
    history = []
    for epoch, loss, recall in fit(model, params, optimizer, train_loader, valid_loader, generator, cfg):
        history.append((loss, recall[1]))
        print(f"epoch {epoch}: loss {loss:.4f}, recall@1 {recall[1]:.3f}, recall@5 {recall[5]:.3f}")
    print(f"last recall@1: {history[-1][1]:.3f}")


if __name__ == "__main__":
    main()
