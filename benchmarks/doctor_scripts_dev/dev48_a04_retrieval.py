"""Metric learning: embeddings of noisy digits from triplets, scored by retrieval from a gallery."""

import copy
import math
from dataclasses import asdict, dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

import toydata


@dataclass
class Config:
    pool: int = 1800
    embedding: int = 32
    width: int = 24
    dropout: float = 0.3
    margin: float = 0.4
    lr: float = 1e-3
    weight_decay: float = 1e-4
    batch_size: int = 48
    epochs: int = 12
    warmup: int = 20
    clip_norm: float = 5.0
    seed: int = 7


class TripletDataset(Dataset):
    """An anchor, another image of its class, and an image of some other class."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels
        self.members = {c: (labels == c).nonzero().flatten() for c in labels.unique().tolist()}
        self.classes = sorted(self.members)

    def __len__(self):
        return len(self.images)

    def _draw(self, label):
        rows = self.members[label]
        return self.images[rows[int(torch.randint(len(rows), (1,)))]]

    def __getitem__(self, index):
        label = int(self.labels[index])
        others = [c for c in self.classes if c != label]
        other = others[int(torch.randint(len(others), (1,)))]
        return self.images[index], self._draw(label), self._draw(other)


class Embedder(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        w = cfg.width
        self.trunk = nn.Sequential(
            nn.Conv2d(1, w, 3, padding=1), nn.BatchNorm2d(w), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(w, 2 * w, 3, padding=1), nn.BatchNorm2d(2 * w), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(2 * w, 2 * w, 3, padding=1), nn.BatchNorm2d(2 * w), nn.ReLU(),
        )
        self.dropout = nn.Dropout(cfg.dropout)
        self.project = nn.Linear(2 * w * 4 * 4, cfg.embedding)

    def forward(self, x):
        h = self.trunk(x).flatten(1)
        z = self.project(self.dropout(h))
        return F.normalize(z, dim=1)


@torch.no_grad()
def embed(net, images, chunk=100):
    net.eval()
    return torch.cat([net(part) for part in images.split(chunk)])


def retrieval_scores(net, gallery, gallery_labels, queries, query_labels):
    similarity = embed(net, queries) @ embed(net, gallery).T
    ranked = gallery_labels[similarity.topk(10, dim=1).indices]
    hits = ranked == query_labels[:, None]
    return {
        "R@1": hits[:, 0].float().mean().item(),
        "R@5": hits[:, :5].any(dim=1).float().mean().item(),
        "P@10": hits.float().mean().item(),
    }


def lr_factor(step, cfg, total):
    if step < cfg.warmup:
        return (step + 1) / cfg.warmup
    return 0.5 * (1 + math.cos(math.pi * (step - cfg.warmup) / max(1, total - cfg.warmup)))


def run(cfg):
    torch.manual_seed(cfg.seed)
    print(asdict(cfg))

    raw, labels = toydata.draw_digits(cfg.pool, size=16, seed=3, noise=0.25, shift=3)
    images = (raw.float() / 255 - 0.2) / 0.28
    order = torch.randperm(cfg.pool)
    idx_train = order[:1200]
    idx_gallery = order[1200:1500]
    idx_test = order[1500:]

    train_set = TripletDataset(images[idx_train], labels[idx_train])
    loader = DataLoader(train_set, batch_size=cfg.batch_size, shuffle=True, drop_last=True)
    gallery, gallery_labels = images[idx_gallery], labels[idx_gallery]
    queries, query_labels = images[idx_test], labels[idx_test]

    net = Embedder(cfg)
    criterion = nn.TripletMarginLoss(margin=cfg.margin)
    optimizer = torch.optim.AdamW(net.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    total = cfg.epochs * len(loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, cfg, total))

    scores = retrieval_scores(net, gallery, gallery_labels, queries, query_labels)
    print("before training", {k: round(v, 3) for k, v in scores.items()})
    for epoch in range(cfg.epochs):
        net.train()
        losses = []
        for anchor, positive, negative in loader:
            za, zp, zn = net(torch.cat([anchor, positive, negative])).chunk(3)
            loss = criterion(za, zp, zn)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), cfg.clip_norm)
            optimizer.step()
            scheduler.step()
            losses.append(loss.detach())
        scores = retrieval_scores(net, gallery, gallery_labels, queries, query_labels)
        print(f"epoch {epoch:02d} loss {torch.stack(losses).mean():.4f}", {k: round(v, 3) for k, v in scores.items()})
    return copy.deepcopy(net.state_dict()), scores


if __name__ == "__main__":
    state, final = run(Config())
    print("final", {k: round(v, 4) for k, v in final.items()})
