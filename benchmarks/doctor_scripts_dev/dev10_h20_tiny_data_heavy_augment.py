"""One hundred pictures only: strong but fair augmentation, a small regularized net, flip averaging."""
import math
import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


@dataclass
class Settings:
    seed: int = 21
    train_count: int = 102
    batch_size: int = 34
    epochs: int = 120
    weight_decay: float = 0.02
    dropout: float = 0.1
    mean: tuple = (0.49, 0.47, 0.5)
    std: tuple = (0.18, 0.15, 0.18)


def to_pil(tensor):
    return Image.fromarray((tensor.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))


class Compose:
    def __init__(self, *steps):
        self.steps = steps

    def __call__(self, x):
        for step in self.steps:
            x = step(x)
        return x


def random_flip(image):
    return image.transpose(random.choice([Image.FLIP_LEFT_RIGHT, Image.FLIP_TOP_BOTTOM, Image.ROTATE_90, Image.ROTATE_180]))


def random_shift_and_zoom(image, shift=2, zoom=0.06):
    """The ground is gray, so what comes in at the borders is gray too."""
    scale = 1 + random.uniform(-zoom, zoom)
    dx, dy = random.uniform(-shift, shift), random.uniform(-shift, shift)
    c = (image.width - 1) / 2
    matrix = (scale, 0, c - scale * c + dx, 0, scale, c - scale * c + dy)
    return image.transform(image.size, Image.AFFINE, matrix, resample=Image.BILINEAR, fillcolor=(128, 128, 128))


def random_brightness(image):
    factor = random.uniform(0.85, 1.15)
    return image.point(lambda v: min(255, int(v * factor)))


class ToTensor:
    def __init__(self, mean, std):
        self.mean, self.std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]

    def __call__(self, image):
        return (torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255 - self.mean) / self.std


class Pictures(Dataset):
    def __init__(self, items, transform):
        self.items, self.transform = items, transform

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        image, label = self.items[i]
        return self.transform(image), label


def balanced_subset(shapes, count):
    """The same number of each name."""
    chosen, room = [], {k: count // 6 for k in range(6)}
    for image, label in zip(shapes.images, shapes.targets):
        if room[label] > 0:
            room[label] -= 1
            chosen.append((to_pil(image), label))
    return chosen


def build(dropout):
    return nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1), nn.BatchNorm2d(24), nn.GELU(), nn.MaxPool2d(2),
        nn.Conv2d(24, 32, 3, padding=1), nn.BatchNorm2d(32), nn.GELU(),
        nn.Conv2d(32, 48, 3, padding=1), nn.BatchNorm2d(48), nn.GELU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(dropout), nn.Linear(48 * 25, 6))


@torch.no_grad()
def evaluate(model, loader, flips=False):
    model.eval()
    right = 0
    for x, y in loader:
        logits = model(x)
        if flips:
            logits = logits + model(x.flip(-1)) + model(x.flip(-2)) + model(x.flip(-1, -2))
        right += (logits.argmax(1) == y).sum().item()
    return right / len(loader.dataset)


def fit(model, loader, epochs, lr, weight_decay, report=None):
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    total = epochs * len(loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1, (s + 1) / 10) * 0.5 * (1 + math.cos(math.pi * s / total)))
    for epoch in range(epochs):
        model.train()
        losses = []
        for x, y in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.detach())
        if report:
            report(epoch, torch.stack(losses).mean().item())


def main():
    cfg = Settings()
    random.seed(cfg.seed)
    torch.manual_seed(cfg.seed)
    augment = Compose(random_flip, random_shift_and_zoom, random_brightness, ToTensor(cfg.mean, cfg.std))
    train = Pictures(balanced_subset(Shapes(train=True, size=20), cfg.train_count), augment)
    held = Shapes(train=False, size=20)
    valid = Pictures([(to_pil(i), t) for i, t in zip(held.images, held.targets)], ToTensor(cfg.mean, cfg.std))
    loader, valid_loader = DataLoader(train, cfg.batch_size, shuffle=True), DataLoader(valid, 120)
    model = build(cfg.dropout)

    def report(epoch, loss):
        if epoch % 12 == 11:
            print(f"epoch {epoch + 1:3d} loss {loss:.4f} valid {evaluate(model, valid_loader):.4f}")

    fit(model, loader, cfg.epochs, 3e-3, cfg.weight_decay, report)
    print(f"with flips: {evaluate(model, valid_loader, flips=True):.4f}")


if __name__ == "__main__":
    main()
