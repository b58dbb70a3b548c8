"""Localization: one object to an image, its class and its box (x1, y1, x2, y2 as fractions of the image)."""
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes


@dataclass
class Config:
    image_size: int = 24
    train_count: int = 2000
    valid_count: int = 400
    batch_size: int = 32
    epochs: int = 14
    lr: float = 3e-3
    weight_decay: float = 1e-3
    box_weight: float = 10.0
    flip: float = 0.5
    seed: int = 3


class BoxDataset(Dataset):
    """The annotations come class by class, as in a directory for each class."""

    def __init__(self, cfg: Config, train: bool):
        shapes = Shapes(train=train, count=cfg.train_count if train else cfg.valid_count, size=cfg.image_size)
        order = sorted(range(len(shapes)), key=lambda i: shapes.targets[i])
        self.images = (torch.stack([shapes.images[i] for i in order]) - 0.5) / 0.2
        self.labels = torch.tensor([shapes.targets[i] for i in order])
        self.boxes = torch.stack([shapes.boxes[i] for i in order])
        self.flip = cfg.flip if train else 0.0

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image, label, box = self.images[i], self.labels[i], self.boxes[i]
        if torch.rand(()) < self.flip:
            image = torch.flip(image, dims=[2])
            x1, y1, x2, y2 = box
            box = torch.stack([1 - x2, y1, 1 - x1, y2])
        return image, label, box


class Localizer(nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        blocks = []
        for inputs, outputs in [(3, 16), (16, 32), (32, 64)]:
            blocks += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
        self.backbone = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(64 * 3 * 3, 128), nn.ReLU())
        self.class_head = nn.Linear(128, classes)
        self.box_head = nn.Linear(128, 4)

    def forward(self, x):
        features = self.backbone(x)
        return self.class_head(features), torch.sigmoid(self.box_head(features))


def box_iou(a, b):
    """IoU of boxes row by row."""
    top_left = torch.maximum(a[:, :2], b[:, :2])
    bottom_right = torch.minimum(a[:, 2:], b[:, 2:])
    intersection = (bottom_right - top_left).clamp(min=0).prod(dim=1)
    area_a = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(dim=1)
    area_b = (b[:, 2:] - b[:, :2]).clamp(min=0).prod(dim=1)
    return intersection / (area_a + area_b - intersection).clamp(min=1e-6)


def train_epoch(model, loader, optimizer, scheduler, cfg):
    model.train()
    running = 0.0
    for images, labels, boxes in loader:
        logits, predicted = model(images)
        class_loss = F.cross_entropy(logits, labels)
        box_loss = F.smooth_l1_loss(predicted, boxes, beta=0.1)
        loss = class_loss + cfg.box_weight * box_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        running += loss.item()
    return running / len(loader)


@torch.inference_mode()
def validate(model, loader):
    model.eval()
    right, overlap, found, count = 0, 0.0, 0, 0
    for images, labels, boxes in loader:
        logits, predicted = model(images)
        iou = box_iou(predicted, boxes)
        hit = logits.argmax(dim=1) == labels
        right += hit.sum().item()
        overlap += iou.sum().item()
        found += (hit & (iou > 0.5)).sum().item()
        count += len(labels)
    return right / count, overlap / count, found / count


def run(cfg: Config):
    torch.manual_seed(cfg.seed)
    torch.set_num_threads(1)
    train_loader = DataLoader(BoxDataset(cfg, train=True), batch_size=cfg.batch_size, shuffle=True)
    valid_loader = DataLoader(BoxDataset(cfg, train=False), batch_size=100)
    model = Localizer(len(NAMES))
    optimizer = torch.optim.AdamW(
        [
            {"params": model.backbone.parameters()},
            {"params": model.class_head.parameters()},
            {"params": model.box_head.parameters()},
        ],
        lr=cfg.lr,
        weight_decay=cfg.weight_decay,
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=cfg.epochs * len(train_loader))
    for epoch in range(cfg.epochs):
        loss = train_epoch(model, train_loader, optimizer, scheduler, cfg)
        accuracy, iou, found = validate(model, valid_loader)
        print(f"[{epoch + 1}/{cfg.epochs}] loss {loss:.3f} | class acc {accuracy:.3f} | mean IoU {iou:.3f} | found@0.5 {found:.3f}")


if __name__ == "__main__":
    run(Config())
