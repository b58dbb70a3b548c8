"""Localize one object per image: boxes by L1 and generalized IoU, classes by cross entropy."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class BoxData(Dataset):
    def __init__(self, train):
        self.source, self.train = Shapes(train=train, count=1500 if train else 300), train

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        image, label = self.source[index]
        box = self.source.boxes[index].clone()
        if self.train and torch.rand(()) < 0.5:
            image = image.flip(-1)
            box[[0, 2]] = 1 - box[[2, 0]]
        return (image - 0.5) / 0.25, box, label


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1), nn.GroupNorm(4, 24), nn.SiLU(),
            nn.Conv2d(24, 32, 3, stride=2, padding=1), nn.GroupNorm(4, 32), nn.SiLU(),
            nn.Conv2d(32, 48, 3, stride=2, padding=1), nn.GroupNorm(4, 48), nn.SiLU(),
            nn.Flatten(), nn.Linear(48 * 16, 128), nn.SiLU(),
        )  # fmt: skip
        self.box = nn.Linear(128, 4)
        self.kind = nn.Linear(128, 6)

    def forward(self, images):
        features = self.body(images)
        center, size = self.box(features).sigmoid().chunk(2, dim=1)
        return torch.cat([center - size / 2, center + size / 2], dim=1), self.kind(features)


def iou_and_giou(a, b):
    left_top, right_bottom = torch.max(a[:, :2], b[:, :2]), torch.min(a[:, 2:], b[:, 2:])
    inter = (right_bottom - left_top).clamp(min=0).prod(1)
    area = lambda box: (box[:, 2:] - box[:, :2]).prod(1)
    union = area(a) + area(b) - inter
    hull = (torch.max(a[:, 2:], b[:, 2:]) - torch.min(a[:, :2], b[:, :2])).prod(1)
    iou = inter / union
    return iou, iou - (hull - union) / hull


def evaluate(model, loader):
    model.eval()
    ious, hits = [], 0
    with torch.inference_mode():
        for images, boxes, labels in loader:
            predicted, logits = model(images)
            ious.append(iou_and_giou(predicted, boxes)[0])
            hits += (logits.argmax(1) == labels).sum().item()
    ious = torch.cat(ious)
    return ious.mean().item(), (ious > 0.7).float().mean().item(), hits / len(loader.dataset)


def main(epochs=20):
    torch.manual_seed(3)
    train_loader = DataLoader(BoxData(True), batch_size=50, shuffle=True)
    val_loader = DataLoader(BoxData(False), batch_size=100)
    model = Detector()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
    steps = epochs * len(train_loader)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=30)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - 30)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], milestones=[30])
    for epoch in range(epochs):
        model.train()
        for images, boxes, labels in train_loader:
            predicted, logits = model(images)
            giou = iou_and_giou(predicted, boxes)[1]
            loss = 5 * F.l1_loss(predicted, boxes) + (1 - giou).mean() + F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
        iou, recall, accuracy = evaluate(model, val_loader)
        print(f"{epoch:2d} loss {loss.item():.3f} | IoU {iou:.3f} IoU>0.7 {recall:.3f} class accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
