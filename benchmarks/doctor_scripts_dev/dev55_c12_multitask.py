"""One trunk, three tasks: kind, color and box of a shape, weighted by learned uncertainties (Kendall et al.)."""
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

TASKS = ["kind", "color", "box"]


class MultiTaskShapes(Dataset):
    def __init__(self, train):
        self.shapes = Shapes(train=train)

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image, target = self.shapes[index]
        return {
            "image": (image - 0.5) / 0.25,
            "kind": target % 3,
            "color": torch.tensor(float(target // 3)),
            "box": self.shapes.boxes[index],
        }


class MultiTaskNet(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
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
        self.heads = nn.ModuleDict({"kind": nn.Linear(96, 3), "color": nn.Linear(96, 1), "box": nn.Linear(96, 4)})

    def forward(self, image):
        features = self.trunk(image)
        return {
            "kind": self.heads["kind"](features),
            "color": self.heads["color"](features).squeeze(1),
            "box": self.heads["box"](features).sigmoid(),
        }


def task_losses(outputs, batch):
    return {
        "kind": F.cross_entropy(outputs["kind"], batch["kind"]),
        "color": F.binary_cross_entropy_with_logits(outputs["color"], batch["color"]),
        "box": F.l1_loss(outputs["box"], batch["box"]),
    }


class UncertaintyWeighting(nn.Module):
    """exp(-s) * loss + s for each task; the sum may well be below zero."""

    def __init__(self, tasks):
        super().__init__()
        self.log_vars = nn.ParameterDict({task: nn.Parameter(torch.zeros(())) for task in tasks})

    def forward(self, losses):
        return sum(torch.exp(-self.log_vars[task]) * loss + self.log_vars[task] for task, loss in losses.items())


def box_iou(a, b):
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    intersection = (high - low).clamp(min=0).prod(1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(1), (b[:, 2:] - b[:, :2]).prod(1)
    return intersection / (area_a + area_b - intersection)


class Learner:
    def __init__(self, model, weighting, lr, total_steps):
        self.model, self.weighting = model, weighting
        self.optimizer = torch.optim.Adam(
            [{"params": model.parameters()}, {"params": weighting.parameters(), "lr": 2 * lr}], lr=lr
        )
        self.scheduler = torch.optim.lr_scheduler.LinearLR(self.optimizer, 1.0, 0.1, total_iters=total_steps)
        self.step_count = 0

    def step(self, batch):
        losses = task_losses(self.model(batch["image"]), batch)
        total = self.weighting(losses)
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.step_count += 1
        return total.detach()

    @torch.no_grad()
    def evaluate(self, loader):
        self.model.eval()
        sums, seen = {task: 0.0 for task in TASKS}, 0
        for batch in loader:
            outputs = self.model(batch["image"])
            sums["kind"] += (outputs["kind"].argmax(1) == batch["kind"]).sum().item()
            sums["color"] += ((outputs["color"] > 0) == (batch["color"] > 0.5)).sum().item()
            sums["box"] += box_iou(outputs["box"], batch["box"]).sum().item()
            seen += len(batch["image"])
        return {task: value / seen for task, value in sums.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=30)
    parser.add_argument("--lr", type=float, default=3e-3)
    args = parser.parse_args()
    torch.manual_seed(0)

    train_loader = DataLoader(MultiTaskShapes(train=True), args.batch_size, shuffle=True)
    val_loader = DataLoader(MultiTaskShapes(train=False), 80)
    learner = Learner(MultiTaskNet(), UncertaintyWeighting(TASKS), args.lr, args.epochs * len(train_loader))

    for epoch in range(args.epochs):
        learner.model.train()
        total = torch.stack([learner.step(batch) for batch in train_loader]).mean().item()
        scores = learner.evaluate(val_loader)
        report = "  ".join(f"{task} {scores[task]:.3f}" for task in TASKS)
        print(f"epoch {epoch:2d}  loss {total:7.3f}  {report}  (kind, color: accuracy, box: IoU)")
    print({task: round(s.item(), 2) for task, s in learner.weighting.log_vars.items()})


if __name__ == "__main__":
    main()
