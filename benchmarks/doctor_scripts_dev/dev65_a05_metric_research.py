"""Metric learning on colored shapes: all-triplet loss, P x K batches, an averaged encoder for retrieval."""

import copy
import json
import random
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from toydata import Shapes

CONFIG = {
    "seed": 3,
    "data": {"size": 16, "classes_per_batch": 6, "samples_per_class": 6, "batches_per_epoch": 24},
    "augment": {"max_shift": 2, "flip": 0.5, "brightness": 0.1},
    "model": {"width": 24, "embedding_dim": 32},
    "loss": {"name": "triplet", "margin": 0.3},
    "optim": {"name": "adamw", "lr": 2e-3, "weight_decay": 1e-4, "epochs": 8},
    "ema": {"decay": 0.95},
}

def set_seed(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)

class Augment:
    def __init__(self, max_shift, flip, brightness):
        self.max_shift, self.flip, self.brightness = max_shift, flip, brightness
    def __call__(self, image):
        dy, dx = (random.randint(-self.max_shift, self.max_shift) for _ in range(2))
        image = torch.roll(image, (dy, dx), dims=(-2, -1))
        if random.random() < self.flip:
            image = image.flip(-1)
        return image + random.uniform(-self.brightness, self.brightness)

class RetrievalDataset(Dataset):
    def __init__(self, train, size, augment=None):
        self.base, self.augment = Shapes(train=train, size=size), augment
        self.labels = np.array(self.base.targets)
    def __len__(self):
        return len(self.base)
    def __getitem__(self, idx):
        image, label = self.base[idx]
        if self.augment is not None:
            image = self.augment(image)
        return (image - 0.5) / 0.2, label

class PKSampler(Sampler):
    """Batches of P classes with K samples each."""
    def __init__(self, labels, p, k, num_batches, seed):
        self.by_class = {c: np.flatnonzero(labels == c) for c in np.unique(labels)}
        self.p, self.k, self.num_batches = p, k, num_batches
        self.rng = np.random.default_rng(seed)
    def __len__(self):
        return self.num_batches
    def __iter__(self):
        for _ in range(self.num_batches):
            classes = self.rng.choice(list(self.by_class), self.p, replace=False)
            yield [int(i) for c in classes for i in self.rng.choice(self.by_class[c], self.k, replace=False)]

class Encoder(nn.Module):
    def __init__(self, width, embedding_dim):
        super().__init__()
        layers, channels = [], 3
        for out in (width, 2 * width, 2 * width):
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(), nn.MaxPool2d(2)]
            channels = out
        self.features = nn.Sequential(*layers)
        self.project = nn.Linear(channels, embedding_dim)
    def forward(self, x):
        h = self.features(x).mean(dim=(2, 3))
        return F.normalize(self.project(h), dim=1)

class TripletLoss(nn.Module):
    def __init__(self, margin):
        super().__init__()
        self.margin = margin
    def forward(self, z, labels):
        dist = 2 - 2 * z @ z.t()
        same = labels[:, None] == labels[None, :]
        eye = torch.eye(len(z), dtype=torch.bool, device=z.device)
        positive, negative = same & ~eye, ~same
        d_ap, d_an = dist.unsqueeze(2), dist.unsqueeze(1)
        hinge = F.relu(d_ap - d_an + self.margin)
        hinge = hinge * (positive.unsqueeze(2) & negative.unsqueeze(1))
        active = (hinge > 0).sum()
        return hinge.sum() / active.clamp(min=1), active

@torch.no_grad()
def update_average(average, model, decay):
    for avg, param in zip(average.parameters(), model.parameters()):
        avg.mul_(decay).add_(param, alpha=1 - decay)
    for avg, buffer in zip(average.buffers(), model.buffers()):
        avg.copy_(buffer)

@torch.no_grad()
def evaluate(model, loader, ks=(1, 5)):
    """Recall@k, each sample being searched among all others."""
    model.eval()
    z, labels = zip(*[(model(x), y) for x, y in loader])
    z, labels = torch.cat(z), torch.cat(labels)
    sim = z @ z.t()
    sim.fill_diagonal_(-2.0)
    nearest = sim.topk(max(ks), dim=1).indices
    match = labels[nearest] == labels[:, None]
    return {f"R@{k}": match[:, :k].any(dim=1).float().mean().item() for k in ks}

def run(config):
    set_seed(config["seed"])
    d, o = config["data"], config["optim"]
    train_set = RetrievalDataset(True, d["size"], Augment(**config["augment"]))
    val_set = RetrievalDataset(False, d["size"])
    sampler = PKSampler(
        train_set.labels, d["classes_per_batch"], d["samples_per_class"], d["batches_per_epoch"], config["seed"])
    train_loader = DataLoader(train_set, batch_sampler=sampler)
    val_loader = DataLoader(val_set, batch_size=80)

    model = Encoder(**config["model"])
    average = copy.deepcopy(model).requires_grad_(False)
    criterion = TripletLoss(config["loss"]["margin"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=o["lr"], weight_decay=o["weight_decay"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=o["epochs"])

    history = []
    for epoch in range(o["epochs"]):
        model.train()
        total, triplets = 0.0, 0
        for images, labels in train_loader:
            loss, active = criterion(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            update_average(average, model, config["ema"]["decay"])
            total, triplets = total + loss.item(), triplets + active.item()
        schedule.step()
        history.append({"epoch": epoch, "loss": total / len(train_loader), "active": triplets, **evaluate(average, val_loader)})
        print(json.dumps(history[-1]))
    return history

def main():
    config = copy.deepcopy(CONFIG)
    for override in sys.argv[1:]:  # e.g. optim.lr=0.001
        key, value = override.split("=")
        section, name = key.split(".")
        config[section][name] = json.loads(value)
    run(config)

if __name__ == "__main__":
    main()
