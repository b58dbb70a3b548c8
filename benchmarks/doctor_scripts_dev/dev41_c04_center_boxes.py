"""Finds shapes in small mosaics with a CenterNet-like detector; the loop follows torchvision's detection references."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes

SIZE, STRIDE = 32, 4
GRID = SIZE // STRIDE
SIGMA = 0.7


def encode(boxes, labels):
    """A heat map for each class, with a bump at each center, and there the distances to the four sides, in cells."""
    boxes = boxes / STRIDE
    col, row = ((boxes[:, :2] + boxes[:, 2:]) / 2).long().unbind(1)
    ys, xs = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    away = (xs - col[:, None, None]) ** 2 + (ys - row[:, None, None]) ** 2
    heat = torch.zeros(len(NAMES), GRID, GRID)
    for label, bump in zip(labels.tolist(), torch.exp(-away / (2 * SIGMA**2))):
        heat[label] = torch.maximum(heat[label], bump)
    sides = torch.zeros(4, GRID, GRID)
    x, y = col + 0.5, row + 0.5
    sides[:, row, col] = torch.stack([x - boxes[:, 0], y - boxes[:, 1], boxes[:, 2] - x, boxes[:, 3] - y])
    return heat, sides


class Mosaics(Dataset):
    """Up to four drawings in the quarters of one picture, with boxes in pixels."""

    def __init__(self, train, count, flip=False):
        shapes = Shapes(train=train, count=4 * count, size=16)
        generator = torch.Generator().manual_seed(3 if train else 4)
        keep = torch.rand(count, 4, generator=generator) < 0.75
        keep[~keep.any(1), 0] = True
        self.flip, self.images, self.targets = flip, [], []
        for i in range(count):
            image = (0.5 + 0.08 * torch.randn(3, SIZE, SIZE, generator=generator)).clamp(0, 1)
            boxes, labels = [], []
            for quarter in keep[i].nonzero().flatten().tolist():
                top, left, j = 16 * (quarter // 2), 16 * (quarter % 2), 4 * i + quarter
                image[:, top : top + 16, left : left + 16] = shapes.images[j]
                boxes.append(shapes.boxes[j] * 16 + torch.tensor([left, top, left, top]))
                labels.append(shapes.targets[j])
            self.images.append((image - 0.5) / 0.2)
            self.targets.append({"boxes": torch.stack(boxes), "labels": torch.tensor(labels)})

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, boxes, labels = self.images[index], self.targets[index]["boxes"], self.targets[index]["labels"]
        if self.flip and torch.rand(()) < 0.5:
            image = image.flip(-1)
            boxes = boxes[:, [2, 1, 0, 3]]
            boxes[:, 0::2] = SIZE - boxes[:, 0::2]
        heat, sides = encode(boxes, labels)
        return image, heat, sides


def conv(c_in, c_out, stride=1):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)
    )


class CenterNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            conv(3, 16), conv(16, 24, 2), conv(24, 24), conv(24, 48, 2), conv(48, 48), conv(48, 48)
        )
        self.heat = nn.Conv2d(48, len(NAMES), 1)
        self.sides = nn.Conv2d(48, 4, 1)
        nn.init.constant_(self.heat.bias, -2.19)  # at first every place holds an object with probability 0.1
        nn.init.constant_(self.sides.bias, 1.0)

    def forward(self, x):
        x = self.backbone(x)
        return self.heat(x), self.sides(x)


def criterion(heat, sides, heat_target, sides_target):
    p = heat.sigmoid().clamp(1e-4, 1 - 1e-4)
    center = heat_target == 1
    focal = torch.where(center, -((1 - p) ** 2) * p.log(), -((1 - heat_target) ** 4) * p**2 * (1 - p).log())
    places = center.any(1)
    distance = (F.l1_loss(sides, sides_target, reduction="none").sum(1) * places).sum()
    return (focal.sum() + distance) / places.sum()


@torch.no_grad()
def detect(model, images, top=10):
    model.eval()
    heat, sides = model(images)
    score = heat.sigmoid()
    score = score * (score == F.max_pool2d(score, 3, stride=1, padding=1))
    score, index = score.flatten(1).topk(top, dim=1)
    label, cell = index // GRID**2, index % GRID**2
    x, y = cell % GRID + 0.5, cell // GRID + 0.5
    left, up, right, down = sides.flatten(2).gather(2, cell[:, None].expand(-1, 4, -1)).unbind(1)
    return torch.stack([x - left, y - up, x + right, y + down], -1) * STRIDE, label, score


def box_iou(a, b):
    corner = torch.minimum(a[:, None, 2:], b[None, :, 2:]) - torch.maximum(a[:, None, :2], b[None, :, :2])
    common = corner.clamp(min=0).prod(-1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(-1), (b[:, 2:] - b[:, :2]).prod(-1)
    return common / (area_a[:, None] + area_b[None] - common)


def average_precision(boxes, labels, scores, targets, name):
    found, total = [], 0
    for i, target in enumerate(targets):
        truth, taken = target["boxes"][target["labels"] == name], set()
        total += len(truth)
        for k in (labels[i] == name).nonzero().flatten().tolist():  # by falling score
            overlap, which = box_iou(boxes[i, k : k + 1], truth)[0].max(0) if len(truth) else (0.0, -1)
            hit = float(overlap) >= 0.5 and int(which) not in taken
            taken.add(int(which) if hit else None)
            found.append((float(scores[i, k]), hit))
    hits = torch.tensor([hit for _, hit in sorted(found, reverse=True)], dtype=torch.float)
    precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
    return float((precision * hits).sum()) / total


def evaluate(model, dataset):
    boxes, labels, scores = detect(model, torch.stack(dataset.images))
    return sum(average_precision(boxes, labels, scores, dataset.targets, c) for c in range(len(NAMES))) / len(NAMES)


def main(epochs=12):
    torch.manual_seed(0)
    train_set, val_set = Mosaics(True, 400, flip=True), Mosaics(False, 100)
    loader = DataLoader(train_set, batch_size=16, shuffle=True)
    model = CenterNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    lr_scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[9, 11], gamma=0.1)
    for epoch in range(epochs):
        warmup = None
        if epoch == 0:
            warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.05, total_iters=len(loader) - 1)
        model.train()
        losses = []
        for images, heat_target, sides_target in loader:
            loss = criterion(*model(images), heat_target, sides_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if warmup is not None:
                warmup.step()
            losses.append(loss.detach())
        lr_scheduler.step()
        print(f"epoch {epoch} loss {torch.stack(losses).mean():.3f} mAP@0.5 {evaluate(model, val_set):.3f}")


if __name__ == "__main__":
    main()
