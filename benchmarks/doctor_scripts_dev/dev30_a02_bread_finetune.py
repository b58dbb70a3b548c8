"""Recognize the flour of a loaf by the baker's cut.

A network is trained on a large catalogue of loaves, its backbone is frozen, and a new head learns the four
cuts of our own bakery from a few photos.
"""

import copy
import os
import tempfile

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)
torch.manual_seed(3)

CATALOGUE = ["plain", "slash", "cross", "ring", "dots", "zigzag"]
BAKERY = {"wheat": "ring", "rye": "zigzag", "spelt": "dots", "oat": "cross"}


def draw_loaf(cut, rng, size=32):
    yy, xx = np.mgrid[0:size, 0:size].astype(np.float32)
    cy, cx = size / 2 + rng.uniform(-2, 2, 2)
    height, width = rng.uniform(10, 13), rng.uniform(11, 14)
    image = np.ones((size, size, 3)) * rng.uniform(0.75, 0.95)
    loaf = ((yy - cy) / height) ** 2 + ((xx - cx) / width) ** 2 < 1
    crust = np.array([0.62, 0.42, 0.22]) * rng.uniform(0.7, 1.2)
    image[loaf] = crust
    dy, dx = yy - cy - rng.uniform(-1.5, 1.5), xx - cx - rng.uniform(-1.5, 1.5)
    thick = rng.uniform(0.8, 1.3)
    reach = np.maximum(np.abs(dy), np.abs(dx)) < rng.uniform(5.5, 7)
    sign = rng.choice([-1, 1])
    marks = {
        "plain": np.zeros_like(loaf),
        "slash": (np.abs(dy + sign * dx) < thick * 1.4) & reach,
        "cross": ((np.abs(dy) < thick) | (np.abs(dx) < thick)) & reach,
        "ring": np.abs(np.hypot(dy, dx) - rng.uniform(4.5, 6)) < thick,
        "dots": (np.hypot(dy, np.abs(np.abs(dx) - 3) - 2) < 1.5 * thick) & reach,
        "zigzag": (np.abs(dy - 2.5 * sign * (np.abs(dx % 6 - 3) - 1.5)) < 1.5 * thick) & reach,
    }
    image[marks[cut]] = np.array([0.95, 0.88, 0.7]) * rng.uniform(0.85, 1.05)
    image = image + rng.normal(0, 0.04, image.shape)
    return np.clip(image, 0, 1).astype(np.float32).transpose(2, 0, 1)


def photos_of(cuts, per_class, seed):
    rng = np.random.default_rng(seed)
    images = np.stack([draw_loaf(cut, rng) for cut in cuts for _ in range(per_class)])
    labels = np.repeat(np.arange(len(cuts)), per_class)
    return (torch.from_numpy(images) - 0.55) / 0.25, torch.from_numpy(labels)


def expand(images, labels, copies):
    """Each photo several times, shifted a little and with other noise."""
    shifted = []
    for _ in range(copies):
        dy, dx = torch.randint(-1, 2, (2,)).tolist()
        moved = torch.roll(images, (dy, dx), dims=(2, 3))
        shifted.append(moved + 0.1 * torch.randn_like(moved))
    return torch.cat(shifted), labels.repeat(copies)


class BreadNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        layers, channels = [], 3
        for width in (16, 32, 64):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
            channels = width
        self.backbone = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(64 * 4, num_classes)
        self.frozen = False

    def freeze(self):
        self.frozen = True
        for parameter in self.backbone.parameters():
            parameter.requires_grad = False

    def train(self, mode=True):
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, x):
        features = self.backbone(x)
        return self.head(self.pool(features).flatten(1))


class Trainer:
    def __init__(self, model, train_loader, val_loader, lr, name):
        self.model, self.train_loader, self.val_loader, self.name = model, train_loader, val_loader, name
        trainable = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trainable, lr=lr, weight_decay=1e-3)
        self.criterion = nn.CrossEntropyLoss()
        self.best, self.best_state = None, None

    def train_epoch(self):
        self.model.train()
        total = 0.0
        for images, labels in self.train_loader:
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(images), labels)
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total / len(self.train_loader)

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        hits = 0
        for images, labels in self.val_loader:
            hits += (self.model(images).argmax(1) == labels).sum().item()
        return hits / len(self.val_loader.dataset)

    def fit(self, epochs):
        for epoch in range(epochs):
            loss = self.train_epoch()
            accuracy = self.validate()
            if self.best is None or accuracy > self.best:
                self.best = accuracy
                self.best_state = copy.deepcopy(self.model.state_dict())
            print(f"[{self.name}] epoch {epoch + 1:2d} loss {loss:.3f} val accuracy {accuracy:.3f}")
        self.model.load_state_dict(self.best_state)
        print(f"[{self.name}] kept: val accuracy {self.validate():.3f}")


def main():
    # 1. the catalogue
    source_train = TensorDataset(*photos_of(CATALOGUE, 280, seed=1))
    source_val = TensorDataset(*photos_of(CATALOGUE, 40, seed=2))
    source = BreadNet(len(CATALOGUE))
    Trainer(
        source, DataLoader(source_train, 32, shuffle=True), DataLoader(source_val, 80), lr=2e-3, name="catalogue"
    ).fit(8)

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "catalogue.pt")
        torch.save({"model": source.state_dict(), "classes": CATALOGUE}, path)
        checkpoint = torch.load(path)

    # 2. our bakery: 60 photos of each loaf
    photos, labels = photos_of(list(BAKERY.values()), 60, seed=7)
    order = torch.randperm(len(photos))
    half = len(photos) // 2
    train_x, train_y = expand(photos[order[:half]], labels[order[:half]], copies=4)
    val_x, val_y = photos[order[half:]], labels[order[half:]]
    train_loader = DataLoader(TensorDataset(train_x, train_y), batch_size=16, shuffle=True)
    val_loader = DataLoader(TensorDataset(val_x, val_y), batch_size=60)

    model = BreadNet(len(checkpoint["classes"]))
    model.load_state_dict(checkpoint["model"])
    model.freeze()
    model.head = nn.Linear(64 * 4, len(BAKERY))
    trainer = Trainer(model, train_loader, val_loader, lr=2e-3, name="bakery")
    trainer.fit(14)


if __name__ == "__main__":
    main()
