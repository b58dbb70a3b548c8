"""Pretrain a small CNN on rendered digits, then fine-tune it on a few handwritten ones."""

import copy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from toydata import Digits
from torch.utils.data import DataLoader, Dataset, Subset

PRETRAIN_EPOCHS = 4
FINETUNE_EPOCHS = 12
UNFREEZE_AT = 2
BATCH_SIZE = 16
ACCUM_STEPS = 2
HEAD_LR = 0.03
BACKBONE_LR = 0.01


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.layer1 = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv2d(32, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(2)

    def forward(self, x):
        return self.pool(self.layer2(self.layer1(self.stem(x)))).flatten(1)


class Classifier(nn.Module):
    def __init__(self, backbone, num_classes=10):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(256, num_classes)

    def forward(self, x):
        return self.head(self.backbone(x))


def plain(image):
    return (image.float() - 0.3) / 0.35


def augmented(image):
    dx, dy = np.random.randint(-2, 3, 2)
    image = torch.roll(image, (int(dy), int(dx)), (-2, -1))
    top, left = np.random.randint(0, 13, 2)
    image = image.clone()
    image[:, top : top + 4, left : left + 4] = 0
    return plain(image)


class HandDigits(Dataset):
    """sklearn's handwritten digits, 16 x 16, in the order of their class folders."""

    def __init__(self, transform):
        raw = load_digits()
        order = np.argsort(raw.target, kind="stable")
        images = torch.tensor(raw.images[order] / 16.0, dtype=torch.float32).unsqueeze(1)
        self.images = F.interpolate(images, size=16, mode="bilinear", align_corners=False)
        self.targets = raw.target[order].tolist()
        self.transform = transform

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return self.transform(self.images[index]), self.targets[index]


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    correct = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    return correct / len(loader.dataset)


def pretrain():
    scale = lambda image: plain(image / 255)
    vary = lambda image: augmented(image / 255)
    train_loader = DataLoader(Digits(True, 1500, transform=vary), batch_size=64, shuffle=True)
    val_loader = DataLoader(Digits(False, 300, transform=scale), batch_size=100)
    model = Classifier(Backbone())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for epoch in range(PRETRAIN_EPOCHS):
        model.train()
        for x, y in train_loader:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"pretrain epoch {epoch} loss {loss.item():.4f} val acc {accuracy(model, val_loader):.4f}")
    return copy.deepcopy(model.state_dict())


def finetune(weights):
    order = torch.randperm(len(HandDigits(plain))).tolist()
    train_set = Subset(HandDigits(transform=augmented), order[:320])
    val_set = Subset(HandDigits(transform=plain), order[320:1020])
    train_loader = DataLoader(train_set, batch_size=BATCH_SIZE, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=200)

    backbone = Backbone()
    wanted = {key.removeprefix("backbone."): value for key, value in weights.items() if key.startswith("backbone.")}
    backbone.load_state_dict(wanted)
    model = Classifier(backbone)

    for p in model.backbone.parameters():
        p.requires_grad = False
    groups = [
        {"params": backbone.layer2.parameters(), "lr": BACKBONE_LR},
        {"params": model.head.parameters(), "lr": HEAD_LR},
    ]
    optimizer = torch.optim.SGD(groups, lr=HEAD_LR, momentum=0.9, weight_decay=1e-4)

    for epoch in range(FINETUNE_EPOCHS):
        if epoch == UNFREEZE_AT:
            for p in backbone.layer2.parameters():
                p.requires_grad = True
        model.train()
        total = 0.0
        optimizer.zero_grad()
        for step, (x, y) in enumerate(train_loader):
            loss = F.cross_entropy(model(x), y)
            (loss / ACCUM_STEPS).backward()
            if (step + 1) % ACCUM_STEPS == 0:
                optimizer.step()
                optimizer.zero_grad()
            total += loss.item() * len(y)
        print(f"finetune epoch {epoch} loss {total / len(train_set):.4f} val acc {accuracy(model, val_loader):.4f}")


if __name__ == "__main__":
    torch.manual_seed(3)
    np.random.seed(3)
    finetune(pretrain())
