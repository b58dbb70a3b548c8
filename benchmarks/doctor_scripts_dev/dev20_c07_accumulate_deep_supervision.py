"""Segmentation with Accelerate: gradients of two small batches per step, auxiliary heads in the decoder."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

CLASSES = ["ground", "square", "disc", "cross"]
CONFIG = {"epochs": 14, "batch_size": 16, "accumulate": 2, "lr": 3e-3, "aux_weights": (0.4, 0.2), "seed": 11}


class MaskDataset(Dataset):
    def __init__(self, train, count, size=20, mean=None, std=None):
        shapes = Shapes(train=train, count=count, size=size)
        images = torch.stack(shapes.images)
        self.mean = images.mean(dim=(0, 2, 3), keepdim=True) if mean is None else mean
        self.std = images.std(dim=(0, 2, 3), keepdim=True) if std is None else std
        self.images = (images - self.mean) / self.std
        self.masks = torch.stack(shapes.masks)
        self.train = train

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, mask = self.images[index], self.masks[index]
        if self.train and torch.rand(()) < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        return image, mask


def double_conv(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.GroupNorm(4, outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.GroupNorm(4, outputs),
        nn.ReLU(),
    )


class DeeplySupervisedUNet(nn.Module):
    """In training it returns the logits and those of two auxiliary heads, else the logits alone."""

    def __init__(self, base=12, classes=4):
        super().__init__()
        self.down1 = double_conv(3, base)
        self.down2 = double_conv(base, 2 * base)
        self.bottom = double_conv(2 * base, 4 * base)
        self.up2 = double_conv(4 * base + 2 * base, 2 * base)
        self.up1 = double_conv(2 * base + base, base)
        self.head = nn.Conv2d(base, classes, 1)
        self.aux2 = nn.Conv2d(2 * base, classes, 1)
        self.aux3 = nn.Conv2d(4 * base, classes, 1)

    def forward(self, x):
        d1 = self.down1(x)
        d2 = self.down2(F.max_pool2d(d1, 2))
        bottom = self.bottom(F.max_pool2d(d2, 2))
        u2 = self.up2(torch.cat([F.interpolate(bottom, scale_factor=2), d2], dim=1))
        u1 = self.up1(torch.cat([F.interpolate(u2, scale_factor=2), d1], dim=1))
        logits = self.head(u1)
        if not self.training:
            return logits
        size = x.shape[-2:]
        aux = [F.interpolate(a, size=size, mode="bilinear", align_corners=False) for a in (self.aux2(u2), self.aux3(bottom))]
        return logits, aux


def criterion(outputs, masks):
    logits, aux = outputs
    loss = F.cross_entropy(logits, masks)
    for weight, a in zip(CONFIG["aux_weights"], aux):
        loss = loss + weight * F.cross_entropy(a, masks)
    return loss


def mean_iou(confusion):
    inter = confusion.diag()
    union = confusion.sum(0) + confusion.sum(1) - inter
    return inter / union.clamp(min=1)


def main():
    set_seed(CONFIG["seed"])
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=CONFIG["accumulate"])
    train_set = MaskDataset(train=True, count=960)
    val_set = MaskDataset(train=False, count=200, mean=train_set.mean, std=train_set.std)
    train_loader = DataLoader(train_set, batch_size=CONFIG["batch_size"], shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=40)

    model = DeeplySupervisedUNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=CONFIG["lr"], weight_decay=1e-3)
    updates = CONFIG["epochs"] * (len(train_loader) // CONFIG["accumulate"])  # 60 batches: always whole pairs
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=updates, eta_min=1e-5)
    model, optimizer, train_loader, val_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, val_loader, scheduler
    )

    for epoch in range(CONFIG["epochs"]):
        model.train()
        total = 0.0
        for images, masks in train_loader:
            with accelerator.accumulate(model):
                loss = criterion(model(images), masks)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            total += loss.item()

        model.eval()
        confusion = torch.zeros(4, 4)
        with torch.no_grad():
            for images, masks in val_loader:
                predictions = model(images).argmax(dim=1)
                predictions, masks = accelerator.gather_for_metrics((predictions, masks))
                confusion += torch.bincount((4 * masks + predictions).flatten(), minlength=16).reshape(4, 4)
        ious = mean_iou(confusion)
        details = ", ".join(f"{name} {iou:.3f}" for name, iou in zip(CLASSES, ious.tolist()))
        accelerator.print(f"epoch {epoch + 1}: loss {total / len(train_loader):.4f} mIoU {ious.mean().item():.4f} ({details})")


if __name__ == "__main__":
    main()
