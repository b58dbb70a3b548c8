"""Training entry point for the shape segmentation model."""

import copy
import time
from dataclasses import dataclass, field
from typing import Dict, Optional

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


@dataclass
class DataConfig:
    size: int = 24
    train_count: int = 900
    val_count: int = 240
    batch_size: int = 16
    flip_probability: float = 0.5


@dataclass
class OptimConfig:
    max_lr: float = 4e-3
    weight_decay: float = 1e-4
    epochs: int = 12
    max_grad_norm: float = 1.0


@dataclass
class TrainerConfig:
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    num_classes: int = 4  # background, square, disc, cross
    width: int = 8
    seed: int = 1234


class ShapeSegmentation(Dataset):
    """Images with a mask of class indices. Augments when training."""

    def __init__(self, config: DataConfig, train: bool) -> None:
        count = config.train_count if train else config.val_count
        self.shapes = Shapes(train=train, count=count, size=config.size)
        self.flip_probability = config.flip_probability if train else 0.0

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int):
        image, _ = self.shapes[index]
        mask = self.shapes.masks[index]
        if torch.rand(()).item() < self.flip_probability:
            image, mask = image.flip(-1), mask.flip(-1)
        return (image - 0.5) / 0.25, mask


def double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class TinyUNet(nn.Module):
    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.enc1 = double_conv(3, width)
        self.enc2 = double_conv(width, 2 * width)
        self.middle = double_conv(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.dec2 = double_conv(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.dec1 = double_conv(2 * width, width)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip1 = self.enc1(x)
        skip2 = self.enc2(self.pool(skip1))
        x = self.middle(self.pool(skip2))
        x = self.dec2(torch.cat([self.up2(x), skip2], dim=1))
        x = self.dec1(torch.cat([self.up1(x), skip1], dim=1))
        return self.head(x)


class Trainer:
    def __init__(self, config: TrainerConfig) -> None:
        self.config = config
        torch.manual_seed(config.seed)
        train_set = ShapeSegmentation(config.data, train=True)
        val_set = ShapeSegmentation(config.data, train=False)
        self.train_loader = DataLoader(train_set, config.data.batch_size, shuffle=True, drop_last=True)
        self.val_loader = DataLoader(val_set, config.data.batch_size)

        self.model = TinyUNet(config.num_classes, config.width)
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.optim.max_lr, weight_decay=config.optim.weight_decay
        )
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=config.optim.max_lr,
            total_steps=config.optim.epochs * len(self.train_loader),
        )
        self.best_score = float("-inf")
        self.best_state: Optional[Dict[str, torch.Tensor]] = None

    def train_one_epoch(self) -> float:
        self.model.train()
        total = 0.0
        for images, masks in self.train_loader:
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.criterion(self.model(images), masks)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optim.max_grad_norm)
            self.optimizer.step()
            self.scheduler.step()
            total += loss.item()
        return total / len(self.train_loader)

    @torch.no_grad()
    def validate(self) -> Dict[str, float]:
        self.model.eval()
        classes = self.config.num_classes
        confusion = torch.zeros(classes, classes, dtype=torch.long)
        for images, masks in self.val_loader:
            predicted = self.model(images).argmax(dim=1)
            pairs = masks.flatten() * classes + predicted.flatten()
            confusion += torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
        hits = confusion.diag().float()
        union = confusion.sum(0) + confusion.sum(1) - confusion.diag()
        iou = hits / union.clamp(min=1)
        return {"miou": iou.mean().item(), "pixel_accuracy": (hits.sum() / confusion.sum()).item()}

    def fit(self) -> Dict[str, float]:
        for epoch in range(1, self.config.optim.epochs + 1):
            started = time.perf_counter()
            loss = self.train_one_epoch()
            report = self.validate()
            if report["miou"] > self.best_score:
                self.best_score = report["miou"]
                self.best_state = copy.deepcopy(self.model.state_dict())
            print(
                f"[epoch {epoch:02d}] loss={loss:.4f} miou={report['miou']:.4f} "
                f"pixel_accuracy={report['pixel_accuracy']:.4f} ({time.perf_counter() - started:.1f}s)"
            )
        self.model.load_state_dict(self.best_state)
        return self.validate()


def main() -> None:
    trainer = Trainer(TrainerConfig())
    final = trainer.fit()
    print(f"selected model: miou={final['miou']:.4f} pixel_accuracy={final['pixel_accuracy']:.4f}")


if __name__ == "__main__":
    main()
