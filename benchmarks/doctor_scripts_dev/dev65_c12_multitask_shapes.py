"""Two heads on one trunk: what the shape is, and where (name and box of colored shapes)."""

from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes


@dataclass
class Config:
    epochs: int = 12
    batch_size: int = 32
    max_lr: float = 4e-3
    weight_decay: float = 1e-4
    box_weight: float = 5.0
    flip: float = 0.5
    seed: int = 0


class ShapesWithBoxes(Dataset):
    def __init__(self, train, flip=0.0):
        self.base = Shapes(train=train)
        self.flip = flip

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        image, name = self.base[index]
        left, top, right, bottom = self.base.boxes[index].tolist()
        if self.flip and torch.rand(()).item() < self.flip:
            image = image.flip(-1)
            left, right = 1.0 - right, 1.0 - left
        return image, {"name": name, "box": (left, top, right, bottom)}


def collate(samples):
    images, annotations = zip(*samples)
    images = (torch.stack(images) - 0.5) / 0.2
    names = torch.tensor([a["name"] for a in annotations])
    boxes = torch.tensor([a["box"] for a in annotations], dtype=torch.float32)
    return images, {"name": names, "box": boxes}


class MultiTaskNet(nn.Module):
    def __init__(self, num_names):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 96),
            nn.ReLU(),
        )
        self.name_head = nn.Linear(96, num_names)
        self.box_head = nn.Linear(96, 4)

    def forward(self, x):
        features = self.trunk(x)
        return {"name": self.name_head(features), "box": self.box_head(features).sigmoid()}


class MultiTaskLoss(nn.Module):
    def __init__(self, box_weight):
        super().__init__()
        self.box_weight = box_weight

    def forward(self, outputs, targets):
        name_loss = F.cross_entropy(outputs["name"], targets["name"])
        box_loss = F.l1_loss(outputs["box"], targets["box"])
        total = name_loss + self.box_weight * box_loss
        return total, {"name": name_loss.item(), "box": box_loss.item()}


def box_iou(a, b):
    top_left = torch.maximum(a[:, :2], b[:, :2])
    bottom_right = torch.minimum(a[:, 2:], b[:, 2:])
    inter = (bottom_right - top_left).clamp(min=0).prod(dim=1)
    area = lambda box: (box[:, 2:] - box[:, :2]).clamp(min=0).prod(dim=1)
    return inter / (area(a) + area(b) - inter).clamp(min=1e-6)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    hits, overlap, count = 0, 0.0, 0
    for images, targets in loader:
        outputs = model(images)
        hits += (outputs["name"].argmax(1) == targets["name"]).sum().item()
        overlap += box_iou(outputs["box"], targets["box"]).sum().item()
        count += len(images)
    return hits / count, overlap / count


def main(config=Config()):
    torch.manual_seed(config.seed)
    train_set = ShapesWithBoxes(train=True, flip=config.flip)
    train_loader = DataLoader(train_set, config.batch_size, shuffle=True, collate_fn=collate)
    val_loader = DataLoader(ShapesWithBoxes(train=False), 80, collate_fn=collate)

    model = MultiTaskNet(len(NAMES))
    criterion = MultiTaskLoss(config.box_weight)
    parameters = list(model.parameters()) + list(criterion.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=config.max_lr, weight_decay=config.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=config.max_lr, epochs=config.epochs, steps_per_epoch=len(train_loader)
    )
    for epoch in range(config.epochs):
        model.train()
        sums = {"name": 0.0, "box": 0.0}
        for images, targets in train_loader:
            optimizer.zero_grad()
            loss, parts = criterion(model(images), targets)
            loss.backward()
            optimizer.step()
            scheduler.step()
            for key, value in parts.items():
                sums[key] += value * len(images)
        accuracy, iou = evaluate(model, val_loader)
        shown = "  ".join(f"{key} {value / len(train_set):.3f}" for key, value in sums.items())
        print(f"epoch {epoch + 1:2d}  {shown}  val accuracy {accuracy:.3f}  val IoU {iou:.3f}")


if __name__ == "__main__":
    main()
