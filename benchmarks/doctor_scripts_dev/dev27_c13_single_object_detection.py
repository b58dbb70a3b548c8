"""Detects the one object of an image: a box (sigmoid, in shares of the size) and a class, two heads on one trunk."""
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


@dataclass
class Config:
    epochs: int = 30
    batch_size: int = 32
    lr: float = 2e-3
    box_weight: float = 5.0
    widths: list = field(default_factory=lambda: [16, 32, 64])
    seed: int = 9


class OneObject(Dataset):
    def __init__(self, train):
        self.shapes = Shapes(train, count=1000 if train else 250)
        self.flip = train

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, i):
        image, label = self.shapes[i]
        box = self.shapes.boxes[i]
        if self.flip and torch.rand(()) < 0.5:
            image = image.flip(-1)
            x1, y1, x2, y2 = box
            box = torch.stack([1 - x2, y1, 1 - x1, y2])
        return (image - 0.48) / 0.18, {"box": box, "label": label}


class Detector(nn.Module):
    def __init__(self, widths, classes=6):
        super().__init__()
        layers, previous = [], 3
        for i, width in enumerate(widths):
            layers += [nn.Conv2d(previous, width, 3, stride=1 if i == 0 else 2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            previous = width
        self.trunk = nn.Sequential(*layers)
        self.box_head = nn.Sequential(nn.Flatten(), nn.Linear(previous * 16, 64), nn.ReLU(), nn.Linear(64, 4))
        self.class_head = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(previous * 16, classes))

    def forward(self, x):
        h = self.trunk(x)
        return torch.sigmoid(self.box_head(h)), self.class_head(h)


def iou(a, b):
    top_left = torch.maximum(a[:, :2], b[:, :2])
    bottom_right = torch.minimum(a[:, 2:], b[:, 2:])
    inter = (bottom_right - top_left).clamp(min=0).prod(1)
    area_a = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(1)
    area_b = (b[:, 2:] - b[:, :2]).clamp(min=0).prod(1)
    return inter / (area_a + area_b - inter)


class Trainer:
    def __init__(self, config):
        self.config = config
        torch.manual_seed(config.seed)
        self.model = Detector(config.widths)
        self.train_loader = DataLoader(OneObject(True), config.batch_size, shuffle=True)
        self.valid_loader = DataLoader(OneObject(False), 125)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.lr)
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, [20, 26], gamma=0.2)

    def loss(self, boxes, logits, target):
        box_loss = F.smooth_l1_loss(boxes, target["box"], beta=0.1)
        return self.config.box_weight * box_loss + F.cross_entropy(logits, target["label"])

    def run_epoch(self):
        self.model.train()
        total = 0.0
        for images, target in self.train_loader:
            loss = self.loss(*self.model(images), target)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        self.scheduler.step()
        return total / len(self.train_loader)

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        ious, right = [], []
        for images, target in self.valid_loader:
            boxes, logits = self.model(images)
            ious.append(iou(boxes, target["box"]))
            right.append(logits.argmax(1) == target["label"])
        ious, right = torch.cat(ious), torch.cat(right)
        return ious.mean().item(), right.float().mean().item(), ((ious > 0.5) & right).float().mean().item()

    def fit(self):
        for epoch in range(self.config.epochs):
            loss = self.run_epoch()
            mean_iou, accuracy, found = self.evaluate()
            print(f"[{epoch + 1}/{self.config.epochs}] loss {loss:.4f} IoU {mean_iou:.3f} accuracy {accuracy:.3f} found {found:.3f}")


if __name__ == "__main__":
    Trainer(Config()).fit()
