"""Name the weave of a piece of fabric: plain, rib, twill to the left (S), twill to the right (Z), herringbone.

    python a01_fabric_weaves.py --epochs 18 --lr 0.05
"""
import argparse
import os
import random
import tempfile

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

WEAVES = ["herringbone", "plain", "rib", "twill_s", "twill_z"]
MEAN, STD = (0.49, 0.49, 0.49), (0.27, 0.27, 0.27)
SIZE = 28


def render(weave, rng):
    """One photograph, height x width x 3, uint8."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    y, x = y + rng.integers(0, 12), x + rng.integers(0, 12)
    thread = rng.integers(2, 4)
    if weave == "plain":
        over = (y // thread + x // thread) % 2
    elif weave == "rib":
        over = (y // thread) % 2
    elif weave == "twill_s":
        over = ((x - y + 200) // thread) % 2
    elif weave == "twill_z":
        over = ((x + y) // thread) % 2
    else:
        over = ((np.abs(x % 14 - 7) + y) // thread) % 2
    dark, light = rng.integers(20, 110, 3), rng.integers(140, 235, 3)
    if rng.random() < 0.5:
        dark, light = light, dark
    photo = np.where(over[..., None] == 1, light, dark) + rng.normal(0, 14, (SIZE, SIZE, 3))
    return photo.clip(0, 255).astype(np.uint8)


class FabricFolder(Dataset):
    """Lists its samples as a folder of folders does: one weave after the other."""

    def __init__(self, per_class, seed, transform):
        rng = np.random.default_rng(seed)
        self.samples = [(render(weave, rng), label) for label, weave in enumerate(WEAVES) for _ in range(per_class)]
        self.transform = transform

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        photo, label = self.samples[index]
        return self.transform(photo), label


def to_tensor(photo):
    return torch.from_numpy(photo).permute(2, 0, 1).float() / 255


class RandomRoll:
    def __init__(self, reach):
        self.reach = reach

    def __call__(self, image):
        shifts = random.randint(-self.reach, self.reach), random.randint(-self.reach, self.reach)
        return torch.roll(image, shifts, dims=(1, 2))


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)

    def __call__(self, image):
        return (image - self.mean) / self.std


class Compose:
    def __init__(self, *steps):
        self.steps = steps

    def __call__(self, image):
        for step in self.steps:
            image = step(image)
        return image


def build_model():
    def block(inputs, outputs):
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    return nn.Sequential(
        *block(3, 24),
        nn.MaxPool2d(2),
        *block(24, 48),
        nn.MaxPool2d(2),
        *block(48, 96),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(96, len(WEAVES)),
    )


def train_one_epoch(model, loader, criterion, optimizer):
    model.train()
    loss_sum = seen = 0
    for images, labels in loader:
        loss = criterion(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(labels)
        seen += len(labels)
    return loss_sum / seen


@torch.no_grad()
def evaluate(model, loader, criterion):
    model.eval()
    loss_sum = correct = seen = 0
    for images, labels in loader:
        outputs = model(images)
        loss_sum += criterion(outputs, labels).item() * len(labels)
        correct += (outputs.argmax(1) == labels).sum().item()
        seen += len(labels)
    return loss_sum / seen, correct / seen


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--batch-size", type=int, default=40)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    random.seed(args.seed)

    train_tf = Compose(to_tensor, RandomRoll(6), Normalize(MEAN, STD))
    val_tf = Compose(to_tensor, Normalize(MEAN, STD))
    train_set = FabricFolder(240, seed=1, transform=train_tf)
    val_set = FabricFolder(80, seed=2, transform=val_tf)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=80)

    model = build_model()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=args.weight_decay
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)

    best = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "best.pt")
        for epoch in range(args.epochs):
            train_loss = train_one_epoch(model, train_loader, criterion, optimizer)
            val_loss, val_acc = evaluate(model, val_loader, criterion)
            scheduler.step()
            print(f"epoch {epoch + 1:2d}  train loss {train_loss:.4f}  val loss {val_loss:.4f}  val acc {val_acc:.4f}")
            if val_acc > best or epoch == 0:
                best = val_acc
                torch.save(model.state_dict(), path)
        model.load_state_dict(torch.load(path))
    print(f"best validation accuracy {evaluate(model, val_loader, criterion)[1]:.4f}")


if __name__ == "__main__":
    main()
