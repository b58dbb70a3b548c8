"""Two tasks of one image, its name and its box, with a shared body; losses weighed by learned uncertainties."""
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes


@dataclass
class Config:
    epochs: int = 10
    batch_size: int = 30
    lr: float = 2e-3
    weight_decay: float = 1e-3
    width: int = 24
    grad_clip: float = 5.0
    seed: int = 3


class NamedBoxes(Dataset):
    """An image, and a dictionary of the number of its name and its box (left, top, right, bottom in 0..1)."""

    def __init__(self, train, augment=False):
        self.base = Shapes(train=train)
        self.augment = augment

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        image, label = self.base[index]
        box = self.base.boxes[index]
        if self.augment and torch.rand(()) < 0.5:
            image = image.flip(2)
            left, top, right, bottom = box.unbind()
            box = torch.stack([1 - right, top, 1 - left, bottom])
        return (image - 0.5) / 0.2, {"label": label, "box": box}


class MultiTaskNet(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.GroupNorm(4, width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.GroupNorm(4, 2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * 16, 96),
            nn.ReLU(),
        )
        self.name_head = nn.Linear(96, classes)
        self.box_head = nn.Linear(96, 4)

    def forward(self, x):
        features = self.body(x)
        return {"label": self.name_head(features), "box": self.box_head(features).sigmoid()}


class UncertaintyWeights(nn.Module):
    """Kendall et al. (2018): exp(-s) * loss + s / 2 for each task."""

    def __init__(self, tasks):
        super().__init__()
        self.log_vars = nn.ParameterDict({task: nn.Parameter(torch.zeros(())) for task in tasks})

    def forward(self, task, loss):
        s = self.log_vars[task]
        return torch.exp(-s) * loss + 0.5 * s


def task_losses(outputs, targets):
    return {
        "label": F.cross_entropy(outputs["label"], targets["label"]),
        "box": 10 * F.smooth_l1_loss(outputs["box"], targets["box"], beta=0.1),
    }


def box_iou(a, b):
    wh = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    inter = wh.prod(1)
    area = lambda t: (t[:, 2:] - t[:, :2]).clamp(min=0).prod(1)
    return inter / (area(a) + area(b) - inter).clamp(min=1e-6)


@torch.no_grad()
def validate(model, loader):
    model.eval()
    right, iou, count = 0, 0.0, 0
    for images, targets in loader:
        outputs = model(images)
        right += (outputs["label"].argmax(1) == targets["label"]).sum().item()
        iou += box_iou(outputs["box"], targets["box"]).sum().item()
        count += len(images)
    return right / count, iou / count


def main(cfg=Config()):
    torch.manual_seed(cfg.seed)
    train_loader = DataLoader(NamedBoxes(True, augment=True), cfg.batch_size, shuffle=True)
    val_loader = DataLoader(NamedBoxes(False), 80)
    model = MultiTaskNet(cfg.width, len(NAMES))
    weights = UncertaintyWeights(["label", "box"])
    optimizer = torch.optim.AdamW(
        [
            {"params": model.parameters(), "weight_decay": cfg.weight_decay},
            {"params": weights.parameters(), "weight_decay": 0.0},
        ],
        lr=cfg.lr,
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=cfg.epochs * len(train_loader))
    for epoch in range(cfg.epochs):
        model.train()
        running = 0.0
        for images, targets in train_loader:
            optimizer.zero_grad()
            losses = task_losses(model(images), targets)
            weighed = [weights(task, loss) for task, loss in losses.items()]
            total = sum(weighed)
            total.backward()
            nn.utils.clip_grad_norm_(model.parameters(), cfg.grad_clip)
            optimizer.step()
            scheduler.step()
            running += total.item()
        accuracy, iou = validate(model, val_loader)
        spread = {task: round(s.item(), 2) for task, s in weights.log_vars.items()}
        print(f"{epoch} loss {running / len(train_loader):.3f} accuracy {accuracy:.3f} IoU {iou:.3f} {spread}")


if __name__ == "__main__":
    main()
