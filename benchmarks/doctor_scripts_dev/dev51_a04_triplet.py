"""Metric learning on digits: P x K batches, batch-all triplet loss, retrieval with an averaged network."""

import copy
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Sampler, TensorDataset

import toydata


@dataclass
class Config:
    seed: int = 7
    widths: tuple = (16, 32, 64)
    dim: int = 32
    classes_per_batch: int = 8
    images_per_class: int = 6
    steps: int = 400
    eval_every: int = 80
    margin: float = 0.3
    lr: float = 1e-3
    weight_decay: float = 1e-4
    ema_decay: float = 0.97
    out: str = tempfile.mkdtemp()


class PKSampler(Sampler):
    """Yields lists of indices: P classes, K images of each."""

    def __init__(self, labels, p, k, batches, seed):
        self.p, self.k, self.batches = p, k, batches
        self.rng = np.random.default_rng(seed)
        self.members = [np.flatnonzero(labels == c) for c in np.unique(labels)]

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            chosen = self.rng.choice(len(self.members), self.p, replace=False)
            picks = [self.rng.choice(self.members[c], self.k, replace=False) for c in chosen]
            yield np.concatenate(picks).tolist()


def conv_block(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1), nn.BatchNorm2d(cout), nn.ReLU(), nn.MaxPool2d(2))


class EmbeddingNet(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        channels = (1, *cfg.widths)
        self.blocks = nn.ModuleList([conv_block(a, b) for a, b in zip(channels[:-1], channels[1:])])
        self.project = nn.Linear(cfg.widths[-1] * 2 * 2, cfg.dim)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        z = self.project(x.flatten(1))
        return F.normalize(z, dim=1)


def pairwise_distances(z):
    squared = 2 - 2 * z @ z.t()
    return squared.clamp(min=1e-8).sqrt()


def triplet_loss(z, y, margin):
    """All valid (anchor, positive, negative); the mean is taken over those that still violate the margin."""
    dist = pairwise_distances(z)
    same = y[:, None] == y[None, :]
    self_pair = torch.eye(len(y), dtype=torch.bool)
    d_ap, d_an = dist[:, :, None], dist[:, None, :]
    valid = (same & ~self_pair)[:, :, None] & ~same[:, None, :]
    hinge = F.relu(d_ap - d_an + margin)[valid]
    return hinge.sum() / (hinge > 1e-6).sum().clamp(min=1)


@torch.no_grad()
def update_average(average, net, decay):
    for a, b in zip(average.parameters(), net.parameters()):
        a.mul_(decay).add_(b, alpha=1 - decay)
    for a, b in zip(average.buffers(), net.buffers()):
        a.copy_(b)


@torch.no_grad()
def retrieval_scores(net, images, labels):
    """Each image is the query once, all others are the gallery."""
    net.eval()
    z = torch.cat([net(chunk) for chunk in images.split(100)])
    similarity = z @ z.t()
    similarity.fill_diagonal_(-2.0)
    order = similarity.argsort(dim=1, descending=True)[:, :-1]
    hits = (labels[order] == labels[:, None]).float()
    precision = hits.cumsum(1) / torch.arange(1, hits.shape[1] + 1)
    average_precision = (precision * hits).sum(1) / hits.sum(1).clamp(min=1)
    return hits[:, 0].mean().item(), average_precision.mean().item()


def prepare(digits):
    return (digits.data.float() / 255 - 0.17) / 0.3, digits.targets


def jitter(x):
    dy, dx = torch.randint(0, 3, (2,)).tolist()
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")[:, :, dy : dy + 16, dx : dx + 16]
    return x + 0.1 * torch.randn_like(x)


def run(cfg):
    torch.manual_seed(cfg.seed)
    train_x, train_y = prepare(toydata.Digits(train=True))
    test_x, test_y = prepare(toydata.Digits(train=False))
    sampler = PKSampler(train_y.numpy(), cfg.classes_per_batch, cfg.images_per_class, cfg.steps, cfg.seed)
    loader = DataLoader(TensorDataset(train_x, train_y), batch_sampler=sampler)

    net = EmbeddingNet(cfg)
    average = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.Adam(net.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=cfg.steps)

    best, path = -1.0, Path(cfg.out) / "average.pt"
    net.train()
    for step, (x, y) in enumerate(loader, start=1):
        loss = triplet_loss(net(jitter(x)), y, cfg.margin)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        update_average(average, net, cfg.ema_decay)

        if step % cfg.eval_every == 0:
            recall, mean_ap = retrieval_scores(average, test_x, test_y)
            print(f"step {step:4d}  loss {loss.item():.4f}  recall@1 {recall:.4f}  mAP {mean_ap:.4f}")
            if mean_ap > best:
                best = mean_ap
                torch.save(average.state_dict(), path)

    average.load_state_dict(torch.load(path))
    recall, mean_ap = retrieval_scores(average, test_x, test_y)
    print({"recall@1": round(recall, 4), "mAP": round(mean_ap, 4), "seed": asdict(cfg)["seed"]})


if __name__ == "__main__":
    run(Config())
