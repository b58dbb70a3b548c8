"""Supervised contrastive embeddings of shapes with a P x K sampler; recall@k of validation queries in the training gallery."""

import math
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from toydata import NAMES, Shapes

config = {
    "seed": 1,
    "data": {"p": 5, "k": 8, "batches_per_epoch": 25, "noise": 0.05},
    "model": {"width": 24, "dim": 32},
    "loss": {"temperature": 0.1},
    "optim": {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True},
    "epochs": 8,
    "eval": {"ks": (1,)},
}

class Augment:
    """Flips and a little noise; names of shapes do not change by either."""

    def __init__(self, noise):
        self.noise = noise

    def __call__(self, x):
        if random.random() < 0.5:
            x = x.flip(2)
        if random.random() < 0.5:
            x = x.flip(1)
        return x + self.noise * torch.randn_like(x)

class RetrievalDataset(Dataset):
    def __init__(self, train, augment=None):
        base = Shapes(train=train)
        self.images, self.labels = torch.stack(base.images), torch.tensor(base.targets)
        self.augment = augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        x = self.images[i]
        if self.augment is not None:
            x = self.augment(x)
        return (x - 0.48) / 0.2, self.labels[i]

class PKSampler(Sampler):
    """Batches of k samples of each of p classes."""

    def __init__(self, labels, p, k, num_batches):
        self.num_classes = int(labels.max()) + 1
        self.pools = [torch.nonzero(labels == c).flatten() for c in range(self.num_classes)]
        self.p, self.k, self.num_batches = p, k, num_batches

    def __len__(self):
        return self.num_batches

    def __iter__(self):
        for _ in range(self.num_batches):
            batch = []
            for c in torch.randperm(self.num_classes)[: self.p].tolist():
                pool = self.pools[c]
                batch += pool[torch.randperm(len(pool))[: self.k]].tolist()
            yield batch

class Embedder(nn.Module):
    def __init__(self, width, dim):
        super().__init__()
        layers, cin = [], 3
        for cout in (width, 2 * width, 2 * width):
            layers += [nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(), nn.MaxPool2d(2)]
            cin = cout
        self.features = nn.Sequential(*layers)
        self.proj = nn.Linear(cin * 4, dim, bias=False)
        self.neck = nn.BatchNorm1d(dim)

    def forward(self, x):
        return F.normalize(self.neck(self.proj(self.features(x).flatten(1))), dim=1)

class SupConLoss(nn.Module):
    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature
    def forward(self, z, labels):
        n = len(z)
        eye = torch.eye(n, dtype=torch.bool)
        logits = (z @ z.t() / self.temperature).masked_fill(eye, -1e9)
        log_prob = logits - logits.logsumexp(1, keepdim=True)
        same = labels[:, None] == labels[None, :]
        pos = (same & ~eye).float()
        return -((pos * log_prob).sum(1) / pos.sum(1).clamp(min=1)).mean()

@torch.no_grad()
def embed(model, dataset):
    model.eval()
    zs, ys = [], []
    for x, y in DataLoader(dataset, batch_size=150):
        zs.append(model(x))
        ys.append(y)
    return torch.cat(zs), torch.cat(ys)

@torch.no_grad()
def recall_at_k(query, query_y, gallery, gallery_y, ks):
    sim = query @ gallery.t()
    result = {}
    for k in ks:
        nearest = sim.topk(k, dim=1).indices
        hit = (gallery_y[nearest] == query_y[:, None]).any(1)
        result[k] = hit.float().mean().item()
    return result

class Trainer:
    def __init__(self, cfg):
        self.cfg = cfg
        d = cfg["data"]
        self.train_set = RetrievalDataset(train=True, augment=Augment(d["noise"]))
        self.gallery_set = RetrievalDataset(train=True)
        self.query_set = RetrievalDataset(train=False)
        sampler = PKSampler(self.train_set.labels, d["p"], d["k"], d["batches_per_epoch"])
        self.loader = DataLoader(self.train_set, batch_sampler=sampler)
        self.model = Embedder(**cfg["model"])
        self.criterion = SupConLoss(**cfg["loss"])
        self.optimizer = torch.optim.SGD(self.model.parameters(), **cfg["optim"])
        steps = cfg["epochs"] * d["batches_per_epoch"]
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps))
        )
    def train_epoch(self):
        self.model.train()
        total = 0.0
        for x, y in self.loader:
            loss = self.criterion(self.model(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            total += loss.item()
        return total / len(self.loader)
    def evaluate(self):
        gallery, gallery_y = embed(self.model, self.gallery_set)
        query, query_y = embed(self.model, self.query_set)
        return recall_at_k(query, query_y, gallery, gallery_y, self.cfg["eval"]["ks"])
    def fit(self):
        for epoch in range(self.cfg["epochs"]):
            loss = self.train_epoch()
            recalls = self.evaluate()
            print(f"[{epoch + 1}/{self.cfg['epochs']}] loss {loss:.4f} " + " ".join(f"R@{k} {v:.4f}" for k, v in recalls.items()))

def main():
    random.seed(config["seed"])
    torch.manual_seed(config["seed"])
    print(f"{len(NAMES)} classes: {', '.join(NAMES)}")
    Trainer(config).fit()

if __name__ == "__main__":
    main()
