"""One trunk, two heads: the kind of a shape and its box."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

cfg = {"kinds": 3, "width": 24, "batch_size": 32, "lr": 2e-3, "box_weight": 5.0}


class ShapeAndBox(Dataset):
    def __init__(self, train):
        self.shapes = Shapes(train=train, transform=lambda image: (image - 0.5) / 0.25)

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image, target = self.shapes[index]
        return image, {"kind": target % 3, "box": self.shapes.boxes[index]}  # box: x1, y1, x2, y2 in [0, 1]


class MultiTaskNet(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        w = cfg["width"]
        self.trunk = nn.Sequential(
            nn.Conv2d(3, w, 3, padding=1, bias=False), nn.BatchNorm2d(w), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(w, 2 * w, 3, padding=1, bias=False), nn.BatchNorm2d(2 * w), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(2 * w * 16, 96), nn.ReLU(),
        )  # fmt: skip
        self.kind_head = nn.Linear(96, cfg["kinds"])
        self.box_head = nn.Linear(96, 4)

    def forward(self, x):
        h = self.trunk(x)
        return {"kind": self.kind_head(h), "box": self.box_head(h).sigmoid()}


class MultiTaskLoss(nn.Module):
    def __init__(self, box_weight):
        super().__init__()
        self.box_weight = box_weight

    def forward(self, outputs, targets):
        kind = F.cross_entropy(outputs["kind"], targets["kind"])
        box = F.l1_loss(outputs["box"], targets["box"])
        return kind + self.box_weight * box


def build_optimizer(model, lr):
    return torch.optim.Adam(model.parameters(), lr=lr)


def train_one_batch(model, batch, optimizer, loss):
    images, targets = batch
    outputs = model(images)
    value = loss(outputs, targets)
    optimizer.zero_grad()
    value.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm=10.0)
    optimizer.step()
    return value.detach()


def setup():
    torch.manual_seed(8)
    model = MultiTaskNet(cfg)
    return {
        "model": model,
        "train": DataLoader(ShapeAndBox(train=True), batch_size=cfg["batch_size"], shuffle=True),
        "val": DataLoader(ShapeAndBox(train=False), batch_size=60),
        "loss": MultiTaskLoss(cfg["box_weight"]),
        "optimizer": build_optimizer(model, cfg["lr"]),
        "step": train_one_batch,
    }
