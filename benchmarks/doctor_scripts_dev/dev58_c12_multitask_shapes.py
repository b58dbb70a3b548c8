"""What is it and where: a shared trunk with two heads, in the style of small multi-task repositories."""

import argparse
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes


@dataclass
class TaskConfig:
    class_weight: float = 1.0
    box_weight: float = 5.0


class ShapeTasks(Dataset):
    """Images with a class and a box (left, top, right, bottom, all in 0..1); flips in training."""

    def __init__(self, train):
        self.base = Shapes(train=train)
        self.train = train

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        image, label = self.base[index]
        box = self.base.boxes[index]
        image = (image - 0.5) / 0.2
        if self.train and torch.rand(()) < 0.5:
            image = image.flip(-1)
            left, top, right, bottom = box.tolist()
            box = torch.tensor([1 - right, top, 1 - left, bottom])
        return {"image": image, "label": label, "box": box}


class MultiTaskNet(nn.Module):
    def __init__(self, num_classes, width=24):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * 16, 96),
            nn.ReLU(),
        )
        self.class_head = nn.Linear(96, num_classes)
        self.box_head = nn.Sequential(nn.Linear(96, 48), nn.ReLU(), nn.Linear(48, 4))

    def forward(self, x):
        z = self.trunk(x)
        return {"label": self.class_head(z), "box": self.box_head(z).sigmoid()}


def task_losses(outputs, batch, config):
    return {
        "label": config.class_weight * F.cross_entropy(outputs["label"], batch["label"]),
        "box": config.box_weight * F.smooth_l1_loss(outputs["box"], batch["box"], beta=0.1),
    }


def iou(a, b):
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    inter = (high - low).clamp(min=0).prod(1)
    area_a = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(1)
    area_b = (b[:, 2:] - b[:, :2]).prod(1)
    return inter / (area_a + area_b - inter)


class Trainer:
    def __init__(self, model, optimizer, scheduler, config):
        self.model, self.optimizer, self.scheduler, self.config = model, optimizer, scheduler, config

    def train_epoch(self, loader):
        self.model.train()
        sums, seen = {"label": 0.0, "box": 0.0}, 0
        for batch in loader:
            outputs = self.model(batch["image"])
            losses = task_losses(outputs, batch, self.config)
            self.optimizer.zero_grad()
            sum(losses.values()).backward()
            self.optimizer.step()
            self.scheduler.step()
            seen += len(batch["label"])
            for name, loss in losses.items():
                sums[name] += loss.item() * len(batch["label"])
        return {name: value / seen for name, value in sums.items()}

    @torch.no_grad()
    def evaluate(self, loader):
        self.model.eval()
        right, overlap, seen = 0, 0.0, 0
        for batch in loader:
            outputs = self.model(batch["image"])
            right += (outputs["label"].argmax(1) == batch["label"]).sum().item()
            overlap += iou(outputs["box"], batch["box"]).sum().item()
            seen += len(batch["label"])
        return {"accuracy": right / seen, "iou": overlap / seen}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=36)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    train_loader = DataLoader(ShapeTasks(True), batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(ShapeTasks(False), batch_size=60)

    model = MultiTaskNet(len(NAMES))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    total = args.epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.2, total_iters=10),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total - 10),
        ],
        milestones=[10],
    )
    trainer = Trainer(model, optimizer, scheduler, TaskConfig())
    for epoch in range(1, args.epochs + 1):
        losses = trainer.train_epoch(train_loader)
        scores = trainer.evaluate(val_loader)
        text = ", ".join(f"{name} {value:.4f}" for name, value in {**losses, **scores}.items())
        print(f"[{epoch:02d}/{args.epochs}] {text}")


if __name__ == "__main__":
    main()
