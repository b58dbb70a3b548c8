"""One to three shapes per image, found by a one-shot detector with a 4 x 4 grid (YOLO style)."""

from dataclasses import dataclass

import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import shape_mask

KINDS = ("square", "disc", "cross")


@dataclass
class Config:
    size: int = 32
    grid: int = 4
    train_images: int = 1000
    val_images: int = 200
    batch_size: int = 32
    epochs: int = 22
    lr: float = 4e-3
    box_weight: float = 5.0


def make_images(cfg, count, seed):
    """Images, and targets of grid x grid x (object, x, y, w, kind): x and y within the cell, w of the image."""
    rng = torch.Generator().manual_seed(seed)
    cell = cfg.size // cfg.grid
    images = 0.4 + 0.06 * torch.randn(count, 1, cfg.size, cfg.size, generator=rng)
    targets = torch.zeros(count, cfg.grid, cfg.grid, 5)
    for i in range(count):
        taken = torch.zeros(cfg.size, cfg.size, dtype=torch.bool)
        for _ in range(int(torch.randint(1, 4, (1,), generator=rng))):
            width = int(torch.randint(7, 12, (1,), generator=rng))
            top, left = torch.randint(0, cfg.size - width + 1, (2,), generator=rng).tolist()
            kind = int(torch.randint(0, 3, (1,), generator=rng))
            if taken[top : top + width, left : left + width].any():
                continue
            taken[top : top + width, left : left + width] = True
            images[i, 0][shape_mask(KINDS[kind], cfg.size, top, left, width)] += 0.5
            x, y = (left + width / 2) / cell, (top + width / 2) / cell
            column, row = int(x), int(y)
            targets[i, row, column] = torch.tensor([1.0, x - column, y - row, width / cfg.size, kind])
    return (images - 0.45) / 0.2, targets


class Detector(nn.Module):
    def __init__(self):
        super().__init__()

        def block(a, b):
            return [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.1)]

        self.body = nn.Sequential(
            *block(1, 12), nn.MaxPool2d(2), *block(12, 24), nn.MaxPool2d(2), *block(24, 48), nn.MaxPool2d(2), *block(48, 48)
        )
        self.out = nn.Conv2d(48, 4 + len(KINDS), 1)
        nn.init.zeros_(self.out.bias)
        self.out.bias.data[0] = -2.0  # few cells hold an object

    def forward(self, x):
        out = self.out(self.body(x)).permute(0, 2, 3, 1)
        return out[..., 0], out[..., 1:4].sigmoid(), out[..., 4:]


def detection_loss(cfg, outputs, target):
    objectness, boxes, kinds = outputs
    present = target[..., 0] > 0.5
    loss_object = F.binary_cross_entropy_with_logits(objectness, target[..., 0])
    loss_box = F.smooth_l1_loss(boxes[present], target[..., 1:4][present], beta=0.1)
    loss_kind = F.cross_entropy(kinds[present], target[..., 4][present].long())
    return loss_object + cfg.box_weight * loss_box + loss_kind


def corners(cfg, boxes):
    """Corner form, in cells, of boxes relative to their cell."""
    half = boxes[..., 2:3] * cfg.grid / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], -1)


def overlap(a, b):
    side = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    inter = side.prod(-1)
    area_a, area_b = (a[..., 2:] - a[..., :2]).prod(-1), (b[..., 2:] - b[..., :2]).prod(-1)
    return inter / (area_a + area_b - inter).clamp(min=1e-6)


@torch.no_grad()
def evaluate(cfg, model, loader):
    model.eval()
    hits = found = objects = 0
    for images, target in loader:
        objectness, boxes, kinds = model(images)
        present, said = target[..., 0] > 0.5, objectness > 0
        iou = overlap(corners(cfg, boxes), corners(cfg, target[..., 1:4]))
        hit = present & said & (iou > 0.5) & (kinds.argmax(-1) == target[..., 4].long())
        hits += hit.sum().item()
        found += said.sum().item()
        objects += present.sum().item()
    return hits / max(found, 1), hits / objects


def run(cfg):
    torch.manual_seed(1)
    train_loader = DataLoader(
        TensorDataset(*make_images(cfg, cfg.train_images, 0)), cfg.batch_size, shuffle=True, drop_last=True
    )
    val_loader = DataLoader(TensorDataset(*make_images(cfg, cfg.val_images, 1)), 100)
    model = Detector()
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=cfg.epochs, eta_min=1e-5)
    for epoch in range(cfg.epochs):
        model.train()
        total = 0.0
        for images, target in train_loader:
            loss = detection_loss(cfg, model(images), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        scheduler.step()
        precision, recall = evaluate(cfg, model, val_loader)
        print(f"[{epoch:02d}] loss {total / len(train_loader):.3f}  precision {precision:.3f}  recall {recall:.3f}")


if __name__ == "__main__":
    run(Config())
