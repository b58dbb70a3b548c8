"""Multi-task learning: kind, color and box of a shape from one backbone with three heads."""

import argparse
from collections import Counter

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes

KINDS = ["square", "disc", "cross"]
COLORS = ["red", "blue"]


class ShapeTasks(Dataset):
    def __init__(self, train):
        self.base = Shapes(train=train)

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        image, target = self.base[index]
        color, kind = NAMES[target].split()
        return {
            "image": (image - 0.5) / 0.2,
            "kind": KINDS.index(kind),
            "color": COLORS.index(color),
            "box": self.base.boxes[index],
        }


def collate(samples):
    return {
        "image": torch.stack([s["image"] for s in samples]),
        "kind": torch.tensor([s["kind"] for s in samples]),
        "color": torch.tensor([s["color"] for s in samples], dtype=torch.float32),
        "box": torch.stack([s["box"] for s in samples]),
    }


class MultiTaskNet(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(width * 16, 64),
            nn.ReLU(),
        )
        self.heads = nn.ModuleDict(
            {"kind": nn.Linear(64, len(KINDS)), "color": nn.Linear(64, 1), "box": nn.Linear(64, 4)}
        )

    def forward(self, x):
        features = self.backbone(x)
        return {
            "kind": self.heads["kind"](features),
            "color": self.heads["color"](features).squeeze(1),
            "box": self.heads["box"](features).sigmoid(),
        }


class MultiTaskLoss(nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.weights = weights
        self.functions = {"kind": nn.CrossEntropyLoss(), "color": nn.BCEWithLogitsLoss(), "box": nn.L1Loss()}

    def forward(self, outputs, batch):
        return {name: self.weights[name] * fn(outputs[name], batch[name]) for name, fn in self.functions.items()}


def box_iou(a, b):
    """Overlap of boxes in rows: (N, 4) and (N, 4), as x1, y1, x2, y2."""
    top_left, bottom_right = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    inter = (bottom_right - top_left).clamp(min=0).prod(dim=1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(dim=1), (b[:, 2:] - b[:, :2]).prod(dim=1)
    return inter / (area_a + area_b - inter)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    sums, count = Counter(), 0
    for batch in loader:
        outputs = model(batch["image"])
        sums["kind"] += (outputs["kind"].argmax(1) == batch["kind"]).sum().item()
        sums["color"] += ((outputs["color"] > 0) == (batch["color"] > 0.5)).sum().item()
        sums["iou"] += box_iou(outputs["box"], batch["box"]).sum().item()
        count += len(batch["kind"])
    return {name: value / count for name, value in sums.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=36)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--box-weight", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    train_loader = DataLoader(ShapeTasks(True), args.batch_size, shuffle=True, collate_fn=collate)
    val_loader = DataLoader(ShapeTasks(False), 80, collate_fn=collate)
    model = MultiTaskNet()
    criterion = MultiTaskLoss({"kind": 1.0, "color": 1.0, "box": args.box_weight})
    optimizer = torch.optim.RAdam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[6, 8], gamma=0.3)

    for epoch in range(args.epochs):
        model.train()
        running = Counter()
        for batch in train_loader:
            losses = criterion(model(batch["image"]), batch)
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            running.update({name: value.item() for name, value in losses.items()})
        scheduler.step()
        parts = "  ".join(f"{name} {value / len(train_loader):.3f}" for name, value in running.items())
        metrics = "  ".join(f"{name} {value:.3f}" for name, value in evaluate(model, val_loader).items())
        print(f"epoch {epoch + 1:2d} | train {parts} | val {metrics}")


if __name__ == "__main__":
    main()
