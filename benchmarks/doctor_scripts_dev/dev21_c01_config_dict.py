"""Digit recognition. All settings live in CONFIG."""

import math
import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from toydata import Digits

CONFIG = {
    "seed": 7,
    "data": {"train": 3200, "val": 600, "batch_size": 64},
    "model": {"channels": [32, 64], "hidden": 128, "dropout": 0.3},
    "optim": {"lr": 2e-3, "weight_decay": 0.02, "clip": 2.0, "warmup_steps": 60},
    "label_smoothing": 0.1,
    "epochs": 15,
}


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def __call__(self, image):
        return (image.float() / 255 - self.mean) / self.std


class ShiftThenNormalize(Normalize):
    """Moves the digit by at most one pixel; there is room for that on all sides."""

    def __call__(self, image):
        image = torch.roll(image, (random.randint(-1, 1), random.randint(-1, 1)), dims=(1, 2))
        return super().__call__(image)


def build_model(channels, hidden, dropout):
    layers, width = [], 1
    for out in channels:
        layers += [nn.Conv2d(width, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(), nn.MaxPool2d(2)]
        width = out
    layers += [nn.Flatten(), nn.Linear(width * 4 * 4, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 10)]
    return nn.Sequential(*layers)


def build_optimizer(model, lr, weight_decay):
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr)


def lr_factor(warmup, total):
    def factor(step):
        if step < warmup:
            return (step + 1) / warmup
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))

    return factor


def evaluate(model, loader):
    model.eval()
    loss, correct, count = 0.0, 0, 0
    with torch.no_grad():
        for images, labels in loader:
            logits = model(images)
            loss += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
            correct += (logits.argmax(1) == labels).sum().item()
            count += len(labels)
    return loss / count, correct / count


def main(config):
    seed_everything(config["seed"])
    train_set = Digits(train=True, count=config["data"]["train"])
    pixels = train_set.data.float() / 255
    mean, std = pixels.mean().item(), pixels.std().item()
    train_set.transform = ShiftThenNormalize(mean, std)
    val_set = Digits(train=False, count=config["data"]["val"], transform=Normalize(mean, std))
    train_loader = DataLoader(train_set, batch_size=config["data"]["batch_size"], shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=200)

    model = build_model(**config["model"])
    optim_config = config["optim"]
    optimizer = build_optimizer(model, optim_config["lr"], optim_config["weight_decay"])
    total = config["epochs"] * len(train_loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_factor(optim_config["warmup_steps"], total))
    criterion = nn.CrossEntropyLoss(label_smoothing=config["label_smoothing"])

    for epoch in range(config["epochs"]):
        model.train()
        running = 0.0
        for images, labels in train_loader:
            optimizer.zero_grad(set_to_none=True)
            loss = criterion(model(images), labels)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), optim_config["clip"])
            optimizer.step()
            scheduler.step()
            running += loss.item()
        val_loss, val_acc = evaluate(model, val_loader)
        lr = scheduler.get_last_lr()[0]
        print(f"epoch {epoch:2d}  lr {lr:.5f}  train {running / len(train_loader):.3f}  val {val_loss:.3f}  acc {val_acc:.3f}")


if __name__ == "__main__":
    main(CONFIG)
