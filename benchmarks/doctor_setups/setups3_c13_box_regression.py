"""Where is the shape? A small network with group norm gives the corners of its box as shares of the image."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

cfg = {
    "batch_size": 32,
    "accumulate": 1,
    "lr": 3e-3,
    "weight_decay": 1e-4,
    "clip": 5.0,
    "width": 16,
    "groups": 4,
}


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def __call__(self, image):
        return (image - self.mean) / self.std


class BoxDataset(Dataset):
    """Images and (left, top, right, bottom), each from 0 to 1."""

    def __init__(self, train, transform):
        self.shapes = Shapes(train=train)
        self.transform = transform

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        return self.transform(self.shapes.images[index]), self.shapes.boxes[index]


class BoxNet(nn.Module):
    def __init__(self, width, groups):
        super().__init__()
        self.backbone = nn.Sequential(
            self.block(3, width, groups, stride=1),
            self.block(width, 2 * width, groups, stride=2),
            self.block(2 * width, 2 * width, groups, stride=2),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(2 * width * 16, 64), nn.ReLU(), nn.Linear(64, 4))

    @staticmethod
    def block(inputs, outputs, groups, stride):
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.GroupNorm(groups, outputs),
            nn.ReLU(),
        )

    def forward(self, x):
        return self.head(self.backbone(x)).sigmoid()


def make_step(accumulate, clip):
    count = 0

    def step(model, batch, optimizer, loss):
        nonlocal count
        images, boxes = batch
        value = loss(model(images), boxes)
        (value / accumulate).backward()
        count += 1
        if count % accumulate == 0:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
        return value.detach()

    return step


def setup():
    torch.manual_seed(12)
    transform = Normalize(0.5, 0.2)
    model = BoxNet(cfg["width"], cfg["groups"])
    return {
        "model": model,
        "train": DataLoader(BoxDataset(True, transform), batch_size=cfg["batch_size"], shuffle=True, drop_last=True),
        "val": DataLoader(BoxDataset(False, transform), batch_size=80),
        "loss": nn.SmoothL1Loss(beta=0.1),
        "optimizer": torch.optim.AdamW(model.parameters(), lr=cfg["lr"], weight_decay=cfg["weight_decay"]),
        "step": make_step(cfg["accumulate"], cfg["clip"]),
        "task": "regress",
    }
