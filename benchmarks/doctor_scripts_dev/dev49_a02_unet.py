"""Semantic segmentation: squares, discs and crosses on a gray ground."""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

import toydata


@dataclass
class Config:
    num_classes: int = 4
    widths: tuple = (12, 24, 48)
    batch_size: int = 32
    epochs: int = 8
    max_lr: float = 5e-3
    val_size: int = 180
    seed: int = 7


def augment(image, mask):
    if torch.rand(()) < 0.5:
        image, mask = image.flip(-1), mask.flip(-1)
    if torch.rand(()) < 0.5:
        image, mask = image.flip(-2), mask.flip(-2)
    return image, mask


class ShapeMasks(Dataset):
    def __init__(self, shapes, indices, training):
        self.shapes, self.indices, self.training = shapes, indices, training

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, position):
        index = self.indices[position]
        image, mask = self.shapes.images[index], self.shapes.masks[index]
        if self.training:
            image, mask = augment(image, mask)
        return (image - 0.5) / 0.2, mask


def double_conv(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, widths, num_classes):
        super().__init__()
        self.encoders = nn.ModuleList()
        channels = 3
        for width in widths:
            self.encoders.append(double_conv(channels, width))
            channels = width
        pairs = zip(widths[:0:-1], widths[-2::-1])
        self.decoders = nn.ModuleList([double_conv(deep + skip, skip) for deep, skip in pairs])
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, x):
        skips = []
        for level, encoder in enumerate(self.encoders):
            x = encoder(x if level == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        skips.pop()
        for decoder in self.decoders:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = decoder(torch.cat([x, skips.pop()], dim=1))
        return self.head(x)


@torch.no_grad()
def evaluate(model, loader, num_classes):
    """Intersection over union of each class, over all pixels of the loader."""
    model.eval()
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.long)
    for images, masks in loader:
        predicted = model(images).argmax(dim=1)
        pairs = masks.flatten() * num_classes + predicted.flatten()
        confusion += torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)
    hits = confusion.diagonal().float()
    union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    return hits / union.clamp(min=1)


def train_one_epoch(model, loader, criterion, optimizer, scheduler):
    model.train()
    total, seen = 0.0, 0
    for images, masks in loader:
        logits = model(images)
        loss = criterion(logits, masks)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item() * len(images)
        seen += len(images)
    return total / seen


def main(cfg):
    torch.manual_seed(cfg.seed)
    shapes = toydata.Shapes(train=True)
    order = torch.randperm(len(shapes)).tolist()
    idx_train = order[cfg.val_size :]
    idx_val = order[: cfg.val_size]
    held_out = toydata.Shapes(train=False)

    train_set = ShapeMasks(shapes, idx_train, training=True)
    train_loader = DataLoader(train_set, batch_size=cfg.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(ShapeMasks(shapes, idx_val, training=False), batch_size=60)
    test_loader = DataLoader(ShapeMasks(held_out, range(len(held_out)), training=False), batch_size=60)

    model = UNet(cfg.widths, cfg.num_classes)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.max_lr, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=cfg.max_lr, epochs=cfg.epochs, steps_per_epoch=len(train_loader)
    )

    best_iou, best_state = -1.0, None
    for epoch in range(cfg.epochs):
        loss = train_one_epoch(model, train_loader, criterion, optimizer, scheduler)
        iou = evaluate(model, val_loader, cfg.num_classes).mean().item()
        print(f"epoch {epoch + 1}: loss {loss:.4f}, mean IoU {iou:.3f}")
        if iou > best_iou:
            best_iou, best_state = iou, copy.deepcopy(model.state_dict())

    model.load_state_dict(best_state)
    per_class = evaluate(model, test_loader, cfg.num_classes)
    print("validation mean IoU:", round(best_iou, 3))
    print("test IoU:", [round(value, 3) for value in per_class.tolist()], "mean", round(per_class.mean().item(), 3))


if __name__ == "__main__":
    main(Config())
