"""One-stage detector on a 4 x 4 grid: objectness, offsets within the cell, sizes, classes; boxes of various number per image."""
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import COLORS, shape_mask

SIZE, GRID = 32, 4
KINDS = ("square", "disc", "cross")


class ShapeScenes(Dataset):
    """One to three shapes that do not touch; targets are (n, 4) boxes as center and size in pixels, and (n,) classes."""

    def __init__(self, count, seed):
        g = torch.Generator().manual_seed(seed)
        draw = lambda low, high: int(torch.randint(low, high, (1,), generator=g))
        self.items = []
        for _ in range(count):
            image, taken, boxes, classes = torch.full((3, SIZE, SIZE), 0.5), torch.zeros(SIZE, SIZE, dtype=torch.bool), [], []
            for _ in range(draw(1, 4)):
                width, kind, color = draw(8, 13), draw(0, 3), list(COLORS.values())[draw(0, 2)]
                top, left = draw(0, SIZE - width + 1), draw(0, SIZE - width + 1)
                if taken[top:top + width, left:left + width].any():
                    continue
                taken[max(top - 1, 0):top + width + 1, max(left - 1, 0):left + width + 1] = True
                image[:, shape_mask(KINDS[kind], SIZE, top, left, width)] = torch.tensor(color)[:, None]
                boxes.append([left + width / 2, top + width / 2, width, width])
                classes.append(kind)
            image = (image + 0.06 * torch.randn(image.shape, generator=g)).clamp(0, 1)
            self.items.append(((image - 0.48) / 0.2, torch.tensor(boxes), torch.tensor(classes)))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def collate(batch):
    images, boxes, classes = zip(*batch)
    return torch.stack(images), list(boxes), list(classes)


class Detector(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        def block(i, o, stride):
            return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(0.1))
        self.backbone = nn.Sequential(block(3, 24, 1), block(24, 32, 2), block(32, 48, 1), block(48, 64, 2), block(64, 64, 1), block(64, 96, 2), block(96, 96, 1))
        self.head = nn.Conv2d(96, 5 + classes, 1)
        nn.init.zeros_(self.head.bias)
        self.head.bias.data[0] = -2.0  # about two of sixteen cells hold an object

    def forward(self, x):
        return self.head(self.backbone(x)).permute(0, 2, 3, 1)


def encode(boxes, classes):
    """Per cell: whether a center falls in it, the target of its four numbers, its class."""
    cell = SIZE / GRID
    objectness, numbers = torch.zeros(len(boxes), GRID, GRID), torch.zeros(len(boxes), GRID, GRID, 4)
    labels = torch.zeros(len(boxes), GRID, GRID, dtype=torch.long)
    for i, (b, c) in enumerate(zip(boxes, classes)):
        column, row = (b[:, 0] / cell).long().clamp(max=GRID - 1), (b[:, 1] / cell).long().clamp(max=GRID - 1)
        objectness[i, row, column] = 1
        numbers[i, row, column] = torch.cat([b[:, :2] / cell - torch.stack([column, row], 1), (b[:, 2:] / 10).log()], 1)
        labels[i, row, column] = c
    return objectness, numbers, labels


def detection_loss(output, objectness, numbers, labels):
    there = objectness.bool()
    confidence = F.binary_cross_entropy_with_logits(output[..., 0], objectness, pos_weight=torch.tensor(3.0))
    center = F.mse_loss(output[..., 1:3][there].sigmoid(), numbers[..., :2][there])
    size = F.smooth_l1_loss(output[..., 3:5][there], numbers[..., 2:][there])
    kind = F.cross_entropy(output[..., 5:][there], labels[there])
    return 2 * confidence + 5 * center + 5 * size + kind


def decode(output):
    cell = SIZE / GRID
    offset = torch.stack(torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="xy"), -1)
    center = (output[..., 1:3].sigmoid() + offset) * cell
    return torch.cat([center, 10 * output[..., 3:5].exp()], -1), output[..., 0].sigmoid(), output[..., 5:].argmax(-1)


def iou(a, b):
    low = torch.maximum((a[:, None, :2] - a[:, None, 2:] / 2), (b[None, :, :2] - b[None, :, 2:] / 2))
    high = torch.minimum((a[:, None, :2] + a[:, None, 2:] / 2), (b[None, :, :2] + b[None, :, 2:] / 2))
    overlap = (high - low).clamp(min=0).prod(-1)
    return overlap / (a[:, None, 2:].prod(-1) + b[None, :, 2:].prod(-1) - overlap)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    right = found = there = 0
    for images, boxes, classes in loader:
        predicted, confidence, kinds = decode(model(images))
        for p, c, k, b, t in zip(predicted, confidence, kinds, boxes, classes):
            keep = c > 0.5
            match = (iou(p[keep], b) > 0.5) & (k[keep][:, None] == t[None])
            right, found, there = right + int(match.any(0).sum()), found + int(keep.sum()), there + len(t)
    return right / max(found, 1), right / there


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--batch-size", type=int, default=40)
    args = parser.parse_args()
    torch.manual_seed(0)
    train_loader = DataLoader(ShapeScenes(1200, 0), args.batch_size, shuffle=True, collate_fn=collate)
    val_loader = DataLoader(ShapeScenes(200, 1), 100, collate_fn=collate)
    model = Detector()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, epochs=args.epochs, steps_per_epoch=len(train_loader), pct_start=0.2)
    for epoch in range(args.epochs):
        model.train()
        total = 0.0
        for images, boxes, classes in train_loader:
            loss = detection_loss(model(images), *encode(boxes, classes))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.detach()
        precision, recall = evaluate(model, val_loader)
        print(f"epoch {epoch} loss {total / len(train_loader):.4f} precision {precision:.3f} recall {recall:.3f}")


if __name__ == "__main__":
    main()
