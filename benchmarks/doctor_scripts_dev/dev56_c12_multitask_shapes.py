"""Name and box of a shape from one network, whose two losses are weighted by learned uncertainties."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes


class ShapeTasks(Dataset):
    """Dictionaries of an image, the number of its name, and its box as x1, y1, x2, y2 between 0 and 1."""

    def __init__(self, train):
        self.base = Shapes(train=train)

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        image, label = self.base[index]
        return {"image": (image - 0.5) / 0.2, "label": label, "box": self.base.boxes[index]}


class MultiTaskNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 16, 128),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(128, num_classes)
        self.regressor = nn.Linear(128, 4)

    def forward(self, images):
        hidden = self.trunk(images)
        return {"logits": self.classifier(hidden), "boxes": self.regressor(hidden)}


class UncertaintyLoss(nn.Module):
    """Each task's loss over its scale, plus the logarithm of the scale (Kendall et al., 2018)."""

    def __init__(self, tasks=2):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(tasks))

    def forward(self, outputs, labels, boxes):
        losses = torch.stack(
            [
                F.cross_entropy(outputs["logits"], labels),
                F.l1_loss(outputs["boxes"], boxes),
            ]
        )
        total = (losses * torch.exp(-self.log_scale) + self.log_scale).sum()
        return total, losses.detach()


def augment(images, boxes):
    """Brightness and contrast; neither moves the box."""
    gain = torch.empty(len(images), 1, 1, 1).uniform_(0.85, 1.15)
    offset = torch.empty(len(images), 1, 1, 1).uniform_(-0.2, 0.2)
    images = images * gain + offset
    return images, boxes


def box_iou(a, b):
    top_left = torch.maximum(a[:, :2], b[:, :2])
    bottom_right = torch.minimum(a[:, 2:], b[:, 2:])
    overlap = (bottom_right - top_left).clamp(min=0).prod(dim=1)
    area_a = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(dim=1)
    area_b = (b[:, 2:] - b[:, :2]).clamp(min=0).prod(dim=1)
    return overlap / (area_a + area_b - overlap)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    correct, iou = 0, 0.0
    for batch in loader:
        outputs = model(batch["image"])
        correct += (outputs["logits"].argmax(1) == batch["label"]).sum().item()
        iou += box_iou(outputs["boxes"], batch["box"]).sum().item()
    return correct / len(loader.dataset), iou / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=30)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--lr-scales", type=float, default=1e-2)
    args = parser.parse_args()
    torch.manual_seed(4)

    train_loader = DataLoader(ShapeTasks(train=True), args.batch_size, shuffle=True)
    val_loader = DataLoader(ShapeTasks(train=False), 60)
    model = MultiTaskNet(len(NAMES))
    criterion = UncertaintyLoss()
    optimizer = torch.optim.AdamW(
        [
            {"params": model.parameters(), "weight_decay": 1e-2},
            {"params": criterion.parameters(), "lr": args.lr_scales, "weight_decay": 0.0},
        ],
        lr=args.lr,
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)
    for epoch in range(args.epochs):
        model.train()
        sums = torch.zeros(2)
        for batch in train_loader:
            images, boxes = augment(batch["image"], batch["box"])
            loss, parts = criterion(model(images), batch["label"], boxes)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            sums += parts * len(images)
        scheduler.step()
        accuracy, iou = evaluate(model, val_loader)
        ce, l1 = (sums / len(train_loader.dataset)).tolist()
        print(f"epoch {epoch + 1:2d}: ce {ce:.3f}  l1 {l1:.4f}  val accuracy {accuracy:.3f}  mean IoU {iou:.3f}")


if __name__ == "__main__":
    main()
