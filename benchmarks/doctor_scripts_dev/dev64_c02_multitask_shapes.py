"""Multi-task learning on shapes: which of six names, and where the box is. One trunk, two heads."""

import argparse
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes


@dataclass
class Config:
    epochs: int = 10
    batch_size: int = 50
    lr: float = 3e-3
    box_weight: float = 5.0
    width: int = 16
    seed: int = 0


class ShapesWithBoxes(Dataset):
    def __init__(self, train):
        self.shapes = Shapes(train=train)

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image, label = self.shapes[index]
        return {"image": (image - 0.5) / 0.2, "label": label, "box": self.shapes.boxes[index]}


class Trunk(nn.Sequential):
    def __init__(self, width):
        super().__init__(
            nn.Conv2d(3, width, 3, padding=1),
            nn.GroupNorm(4, width),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.GroupNorm(4, 2 * width),
            nn.SiLU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
            nn.GroupNorm(4, 2 * width),
            nn.SiLU(),
            nn.Flatten(),
        )


class MultiTaskNet(nn.Module):
    def __init__(self, width, num_classes):
        super().__init__()
        self.trunk = Trunk(width)
        features = 2 * width * 4 * 4
        self.classifier = nn.Linear(features, num_classes)
        self.locator = nn.Sequential(nn.Linear(features, 64), nn.SiLU(), nn.Linear(64, 4))

    def forward(self, image):
        features = self.trunk(image)
        return {"logits": self.classifier(features), "box": self.locator(features)}


class MultiTaskLoss(nn.Module):
    """Adds up the losses of the two tasks."""

    def __init__(self, box_weight):
        super().__init__()
        self.box_weight = box_weight

    def forward(self, outputs, batch):
        ce = F.cross_entropy(outputs["logits"], batch["label"])
        mse = F.mse_loss(outputs["box"], batch["box"])
        total = ce + self.box_weight * mse
        return total, {"ce": ce.detach(), "mse": mse.detach()}


def iou(a, b):
    low = torch.maximum(a[:, :2], b[:, :2])
    high = torch.minimum(a[:, 2:], b[:, 2:])
    inter = (high - low).clamp(min=0).prod(1)
    area = lambda box: (box[:, 2:] - box[:, :2]).clamp(min=0).prod(1)
    return inter / (area(a) + area(b) - inter).clamp(min=1e-6)


class Trainer:
    def __init__(self, config):
        self.config = config
        self.model = MultiTaskNet(config.width, len(NAMES))
        self.criterion = MultiTaskLoss(config.box_weight)
        self.train_loader = DataLoader(ShapesWithBoxes(True), config.batch_size, shuffle=True)
        self.val_loader = DataLoader(ShapesWithBoxes(False), config.batch_size)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=config.lr, weight_decay=0.01)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=config.epochs)

    def train_epoch(self):
        self.model.train()
        total, seen = {"loss": 0.0, "ce": 0.0, "mse": 0.0}, 0
        for batch in self.train_loader:
            outputs = self.model(batch["image"])
            loss, parts = self.criterion(outputs, batch)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            n = len(batch["label"])
            seen += n
            for name, value in {"loss": loss.detach(), **parts}.items():
                total[name] += value.item() * n
        self.scheduler.step()
        return {name: value / seen for name, value in total.items()}

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        right, overlap, seen = 0, 0.0, 0
        for batch in self.val_loader:
            outputs = self.model(batch["image"])
            right += (outputs["logits"].argmax(1) == batch["label"]).sum().item()
            overlap += iou(outputs["box"], batch["box"]).sum().item()
            seen += len(batch["label"])
        return {"accuracy": right / seen, "iou": overlap / seen}

    def fit(self):
        for epoch in range(1, self.config.epochs + 1):
            train = self.train_epoch()
            val = self.evaluate()
            print(
                f"[{epoch:2d}] loss {train['loss']:+.4f} (ce {train['ce']:.4f}, mse {train['mse']:.4f})"
                f" | val accuracy {val['accuracy']:.3f}, IoU {val['iou']:.3f}"
            )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=Config.epochs)
    parser.add_argument("--lr", type=float, default=Config.lr)
    args = parser.parse_args()
    config = Config(epochs=args.epochs, lr=args.lr)
    torch.manual_seed(config.seed)
    Trainer(config).fit()


if __name__ == "__main__":
    main()
