"""Supervised contrastive embeddings of shapes; kNN retrieval and an online linear probe."""
import copy
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from toydata import Shapes

CONFIG = {
    "seed": 7,
    "data": {"size": 16, "crop_scale": (0.75, 1.0), "flip": 0.5, "mean": 0.5, "std": 0.2},
    "sampler": {"classes_per_batch": 6, "samples_per_class": 8, "batches": 30},
    "model": {"width": 24, "feature_dim": 64, "embed_dim": 32},
    "loss": {"temperature": 0.1, "probe_weight": 1.0},
    "optim": {"lr": 3e-3, "weight_decay": 1e-4, "epochs": 10},
    "eval": {"k": 5},
}


class ShapeRetrieval(Dataset):
    def __init__(self, split, cfg):
        self.shapes = Shapes(train=split == "train", size=cfg["size"])
        self.class_to_idx = {name: i for i, name in enumerate(sorted(set(self.shapes.names)))}
        self.labels = [self.class_to_idx[name] for name in self.shapes.names]
        self.mean, self.std = cfg["mean"], cfg["std"]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return (self.shapes.images[i] - self.mean) / self.std, self.labels[i]


class PKSampler(Sampler):
    """Batches of P classes with K samples each."""

    def __init__(self, labels, classes_per_batch, samples_per_class, batches):
        self.by_class = {}
        for i, label in enumerate(labels):
            self.by_class.setdefault(label, []).append(i)
        self.p, self.k, self.batches = classes_per_batch, samples_per_class, batches

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            classes = random.sample(sorted(self.by_class), self.p)
            yield [i for c in classes for i in random.sample(self.by_class[c], self.k)]


class AugmentCollate:
    """Random resized crop (by area) and flip, image by image."""

    def __init__(self, cfg):
        self.scale, self.flip = cfg["crop_scale"], cfg["flip"]

    def augment(self, image):
        size = image.shape[-1]
        side = max(2, round(size * random.uniform(*self.scale) ** 0.5))
        top, left = random.randint(0, size - side), random.randint(0, size - side)
        image = image[:, top : top + side, left : left + side]
        image = F.interpolate(image[None], size=(size, size), mode="bilinear", align_corners=False)[0]
        return image.flip(-1) if random.random() < self.flip else image

    def __call__(self, batch):
        return default_collate([(self.augment(image), label) for image, label in batch])


class SupConNet(nn.Module):
    def __init__(self, width, feature_dim, embed_dim, num_classes=6):
        super().__init__()
        layers, channels = [], 3
        for out, stride in ((width, 1), (2 * width, 2), (feature_dim, 2), (feature_dim, 1)):
            layers += [nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
            channels = out
        self.encoder = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Sequential(nn.Linear(feature_dim, feature_dim), nn.ReLU(), nn.Linear(feature_dim, embed_dim))
        self.probe = nn.Linear(feature_dim, num_classes)

    def forward(self, x):
        h = self.encoder(x)
        z = F.normalize(self.head(h), dim=1)
        return z, self.probe(h.detach())  # the probe must not shape the features


def supcon_loss(z, labels, temperature):
    eye = torch.eye(len(z), dtype=torch.bool, device=z.device)
    positive = (labels[:, None] == labels[None, :]) & ~eye
    logits = (z @ z.t() / temperature).masked_fill(eye, -1e9)
    log_prob = logits - logits.logsumexp(dim=1, keepdim=True)
    return -((log_prob * positive).sum(1) / positive.sum(1).clamp(min=1)).mean()


@torch.no_grad()
def embed(model, loader):
    model.eval()
    out = [(*model(x), y) for x, y in loader]
    return (torch.cat(part) for part in zip(*out))


def evaluate(model, memory_loader, query_loader, k):
    gallery, _, gallery_labels = embed(model, memory_loader)
    query, logits, query_labels = embed(model, query_loader)
    similarity = query @ gallery.t()
    neighbors = gallery_labels[similarity.topk(k, dim=1).indices]
    return {
        "recall@1": (neighbors[:, 0] == query_labels).float().mean().item(),
        f"knn@{k}": (neighbors.mode(dim=1).values == query_labels).float().mean().item(),
        "probe": (logits.argmax(1) == query_labels).float().mean().item(),
    }


def main(cfg):
    random.seed(cfg["seed"])
    torch.manual_seed(cfg["seed"])
    train_set, val_set = ShapeRetrieval("train", cfg["data"]), ShapeRetrieval("val", cfg["data"])
    sampler = PKSampler(train_set.labels, **cfg["sampler"])
    train_loader = DataLoader(train_set, batch_sampler=sampler, collate_fn=AugmentCollate(cfg["data"]))
    memory_loader = DataLoader(train_set, batch_size=128)
    val_loader = DataLoader(val_set, batch_size=128)

    model = SupConNet(**cfg["model"])
    o = cfg["optim"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=o["lr"], weight_decay=o["weight_decay"])
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=o["lr"], total_steps=o["epochs"] * len(train_loader), pct_start=0.2
    )

    best = {"score": -1.0, "state": None}
    for epoch in range(o["epochs"]):
        model.train()
        total = 0.0
        for x, y in train_loader:
            z, probe_logits = model(x)
            loss = supcon_loss(z, y, cfg["loss"]["temperature"])
            loss = loss + cfg["loss"]["probe_weight"] * F.cross_entropy(probe_logits, y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
        metrics = evaluate(model, memory_loader, val_loader, cfg["eval"]["k"])
        if metrics["recall@1"] > best["score"]:
            best = {"score": metrics["recall@1"], "state": copy.deepcopy(model.state_dict())}
        print(f"epoch {epoch:2d} loss {total / len(train_loader):.4f}", {k: round(v, 3) for k, v in metrics.items()})
    print(f"best recall@1 {best['score']:.3f}")


if __name__ == "__main__":
    main(CONFIG)
