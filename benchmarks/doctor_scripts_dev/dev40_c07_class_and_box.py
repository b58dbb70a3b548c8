import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

SIZE, EPOCHS, BATCH = 20, 14, 50


class ShapesWithBoxes(Dataset):
    """Image, class and box (left, top, right, bottom; parts of the side), mirrored at random for training."""

    def __init__(self, shapes, stats, train):
        self.shapes, self.train = shapes, train
        self.mean, self.std = stats

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, i):
        image, label = self.shapes[i]
        image = (image - self.mean) / self.std
        left, top, right, bottom = self.shapes.boxes[i].tolist()
        if self.train and random.random() < 0.5:
            image = image.flip(2)
            left, right = 1 - right, 1 - left
        return image, label, torch.tensor([left, top, right, bottom])


class Net(nn.Module):
    def __init__(self, classes=6):
        super().__init__()

        def layer(inp, out, stride):
            return [nn.Conv2d(inp, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]

        self.trunk = nn.Sequential(*layer(3, 16, 2), *layer(16, 32, 1), *layer(32, 48, 2), *layer(48, 48, 1))
        self.neck = nn.Sequential(nn.Flatten(), nn.Linear(48 * 5 * 5, 128), nn.ReLU())
        self.cls = nn.Linear(128, classes)
        self.box = nn.Linear(128, 4)

    def forward(self, x):
        h = self.neck(self.trunk(x))
        center, extent = self.box(h).sigmoid().split(2, dim=1)
        return self.cls(h), torch.cat([center - extent / 2, center + extent / 2], dim=1)


class UncertaintyLoss(nn.Module):
    """Kendall et al. 2018: each task is weighted by exp(-s), and s, which is learned, is paid for."""

    def __init__(self):
        super().__init__()
        self.s = nn.Parameter(torch.zeros(2))

    def forward(self, scores, boxes, labels, targets):
        parts = torch.stack([F.cross_entropy(scores, labels), 5 * F.l1_loss(boxes, targets)])
        s = self.s.clamp(-3, 3)
        return (torch.exp(-s) * parts + s).sum(), parts.detach()


def iou(a, b):
    lt, rb = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    inter = (rb - lt).clamp(min=0).prod(1)
    area_a = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(1)
    area_b = (b[:, 2:] - b[:, :2]).clamp(min=0).prod(1)
    return inter / (area_a + area_b - inter).clamp(min=1e-6)


def evaluate(net, loader):
    net.eval()
    right, overlap, found, n = 0, 0.0, 0, 0
    with torch.no_grad():
        for images, labels, targets in loader:
            scores, boxes = net(images)
            hit, overlaps = scores.argmax(1) == labels, iou(boxes, targets)
            right += hit.sum().item()
            overlap += overlaps.sum().item()
            found += (hit & (overlaps > 0.5)).sum().item()
            n += len(labels)
    return right / n, overlap / n, found / n


def main():
    random.seed(5)
    torch.manual_seed(5)
    train_shapes, val_shapes = Shapes(train=True, count=1200, size=SIZE), Shapes(train=False, count=300, size=SIZE)
    pixels = torch.stack(train_shapes.images)
    stats = pixels.mean((0, 2, 3)).view(3, 1, 1), pixels.std((0, 2, 3)).view(3, 1, 1)
    train_loader = DataLoader(ShapesWithBoxes(train_shapes, stats, True), BATCH, shuffle=True)
    val_loader = DataLoader(ShapesWithBoxes(val_shapes, stats, False), 100)

    net = Net()
    criterion = UncertaintyLoss()
    optimizer = torch.optim.Adam([
        {"params": net.parameters(), "lr": 2e-3},
        {"params": criterion.parameters(), "lr": 1e-2},
    ])
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)

    for epoch in range(EPOCHS):
        net.train()
        total = torch.zeros(2)
        for images, labels, targets in train_loader:
            scores, boxes = net(images)
            loss, parts = criterion(scores, boxes, labels, targets)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 10.0)
            optimizer.step()
            total += parts * len(labels)
        scheduler.step()
        cls_loss, box_loss = (total / len(train_loader.dataset)).tolist()
        accuracy, mean_iou, found = evaluate(net, val_loader)
        print(f"{epoch:2d}  class loss {cls_loss:.3f}  box loss {box_loss:.3f}  "
              f"val accuracy {accuracy:.3f}  IoU {mean_iou:.3f}  both right {found:.3f}")


if __name__ == "__main__":
    main()
