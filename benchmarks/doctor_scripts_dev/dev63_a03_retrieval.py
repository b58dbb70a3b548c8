"""Image retrieval with a contrastive loss (research code, driven by a config dict)."""

import copy
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Sampler

from toydata import Shapes

config = {
    "seed": 42,
    "data": {"train_count": 900, "test_count": 240, "classes_per_batch": 4, "samples_per_class": 8, "batches": 20},
    "model": {"width": 24, "embedding_dim": 32},
    "loss": {"margin": 1.0},
    "optim": {"lr": 2e-3, "weight_decay": 1e-4, "epochs": 12, "warmup": 20},
    "ema": {"decay": 0.95},
}


def set_seed(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class PKSampler(Sampler):
    """Batches of P classes with K samples each."""

    def __init__(self, labels, p, k, batches, seed=0):
        labels = torch.as_tensor(labels)
        self.pools = [torch.nonzero(labels == c).flatten() for c in labels.unique()]
        self.p, self.k, self.batches = p, k, batches
        self.seed, self.epoch = seed, 0
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self):
        return self.batches

    def __iter__(self):
        generator = self.generator
        for _ in range(self.batches):
            batch = []
            for c in torch.randperm(len(self.pools), generator=generator)[: self.p].tolist():
                pool = self.pools[c]
                batch.extend(pool[torch.randperm(len(pool), generator=generator)[: self.k]].tolist())
            yield batch


def augment(image):
    if random.random() < 0.5:
        image = image.flip(-1)
    return image + 0.02 * torch.randn_like(image)


def normalize(images):
    return (images - 0.5) / 0.15


class EmbeddingNet(nn.Module):
    def __init__(self, width, embedding_dim):
        super().__init__()

        def block(i, o):
            return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2))

        self.features = nn.Sequential(block(3, width), block(width, 2 * width), block(2 * width, 2 * width))
        self.head = nn.Linear(2 * width * 4, embedding_dim)

    def forward(self, x):
        return F.normalize(self.head(self.features(x).flatten(1)), dim=1)


class ContrastiveLoss(nn.Module):
    """Pulls equal pairs together and pushes different ones a margin apart."""

    def __init__(self, margin):
        super().__init__()
        self.margin = margin

    def forward(self, embeddings, labels):
        squared = (2 - 2 * embeddings @ embeddings.t()).clamp(min=0)
        distance = (squared + 1e-6).sqrt()
        upper = torch.ones_like(squared, dtype=torch.bool).triu(diagonal=1)
        same = labels[:, None] == labels[None, :]
        positive = squared[same & upper]
        negative = F.relu(self.margin - distance[~same & upper]).pow(2)
        return positive.mean() + negative.mean()


class ModelEMA:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ema_value, value in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_value.dtype.is_floating_point:
                ema_value.lerp_(value, 1 - self.decay)
            else:
                ema_value.copy_(value)


@torch.no_grad()
def evaluate(model, loader):
    """Recall@1, each image a query against all others."""
    model.eval()
    embeddings, labels = [], []
    for images, targets in loader:
        embeddings.append(model(normalize(images)))
        labels.append(targets)
    embeddings, labels = torch.cat(embeddings), torch.cat(labels)
    similarity = embeddings @ embeddings.t()
    similarity.fill_diagonal_(-2.0)
    order = similarity.argsort(dim=1, descending=True)
    return (labels[order[:, 0]] == labels).float().mean().item()


def train_epoch(model, ema, loader, criterion, optimizer, scheduler):
    model.train()
    losses = []
    for images, labels in loader:
        loss = criterion(model(normalize(images)), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        ema.update(model)
        losses.append(loss.item())
    return float(np.mean(losses))


def run(cfg):
    set_seed(cfg["seed"])
    data, opt = cfg["data"], cfg["optim"]
    train_set = Shapes(train=True, count=data["train_count"], transform=augment)
    test_set = Shapes(train=False, count=data["test_count"])
    sampler = PKSampler(train_set.targets, data["classes_per_batch"], data["samples_per_class"], data["batches"], cfg["seed"])
    train_loader = DataLoader(train_set, batch_sampler=sampler)
    test_loader = DataLoader(test_set, batch_size=80)

    model = EmbeddingNet(**cfg["model"])
    ema = ModelEMA(model, **cfg["ema"])
    criterion = ContrastiveLoss(**cfg["loss"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=opt["lr"], weight_decay=opt["weight_decay"])
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / opt["warmup"]))

    for epoch in range(opt["epochs"]):
        loss = train_epoch(model, ema, train_loader, criterion, optimizer, scheduler)
        recall = evaluate(ema.module, test_loader)
        print(f"epoch {epoch + 1}  loss {loss:.4f}  recall@1 {recall:.4f}")


if __name__ == "__main__":
    run(config)
