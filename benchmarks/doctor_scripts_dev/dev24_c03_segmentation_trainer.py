"""Semantic segmentation of shapes: background, square, disc, cross. Reports the mean IoU."""

import copy
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

CLASSES = ["background", "square", "disc", "cross"]


class SegmentationDataset(Dataset):
    def __init__(self, images, masks, augment=False):
        self.images = images
        self.masks = masks
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = (self.images[index] - 0.5) / 0.25
        mask = self.masks[index]
        if self.augment:
            if random.random() > 0.5:
                image, mask = image.flip(-1), mask.flip(-1)
            if random.random() > 0.5:
                image, mask = image.flip(-2), mask.flip(-2)
        return image, mask


class ConvBNReLU(nn.Sequential):
    def __init__(self, in_channels, out_channels):
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class LinkNet(nn.Module):
    """Encoder and decoder with skip connections that are added."""

    def __init__(self, num_classes, width=16):
        super().__init__()
        self.enc1 = ConvBNReLU(3, width)
        self.enc2 = ConvBNReLU(width, width * 2)
        self.bottleneck = ConvBNReLU(width * 2, width * 4)
        self.dec2 = ConvBNReLU(width * 4, width * 2)
        self.dec1 = ConvBNReLU(width * 2, width)
        self.head = nn.Conv2d(width, num_classes, kernel_size=1)

    def forward(self, x):
        e1 = self.enc1(x)
        e2 = self.enc2(F.max_pool2d(e1, 2))
        b = self.bottleneck(F.max_pool2d(e2, 2))
        d2 = self.dec2(F.interpolate(b, scale_factor=2, mode="bilinear", align_corners=False)) + e2
        d1 = self.dec1(F.interpolate(d2, scale_factor=2, mode="bilinear", align_corners=False)) + e1
        return self.head(d1)


class Trainer:
    def __init__(self, model, train_loader, val_loader, epochs=16, lr=3e-3, device="cpu"):
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.train_loader = train_loader
        self.val_loader = val_loader
        self.epochs = epochs
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=lr, weight_decay=1e-4)
        self.scheduler = torch.optim.lr_scheduler.PolynomialLR(
            self.optimizer, total_iters=epochs * len(train_loader), power=0.9
        )
        self.best_miou = 0.0
        self.best_state = None
        self.history = []

    def train_epoch(self):
        self.model.train()
        running_loss = 0.0
        for images, masks in self.train_loader:
            images = images.to(self.device)
            masks = masks.to(self.device)
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(images), masks)
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            running_loss += loss.item() * len(images)
        return running_loss / len(self.train_loader.dataset)

    @torch.no_grad()
    def evaluate(self, loader):
        self.model.eval()
        n = len(CLASSES)
        confusion = torch.zeros(n, n, dtype=torch.long)
        total_loss = 0.0
        for images, masks in loader:
            images, masks = images.to(self.device), masks.to(self.device)
            logits = self.model(images)
            total_loss += self.criterion(logits, masks).item() * len(images)
            pred = logits.argmax(dim=1)
            index = masks.flatten() * n + pred.flatten()
            confusion += torch.bincount(index, minlength=n * n).reshape(n, n).cpu()
        intersection = confusion.diag().float()
        union = confusion.sum(0) + confusion.sum(1) - confusion.diag()
        iou = intersection / union.clamp(min=1).float()
        pixel_accuracy = intersection.sum().item() / confusion.sum().item()
        return total_loss / len(loader.dataset), iou, pixel_accuracy

    def fit(self):
        for epoch in range(self.epochs):
            train_loss = self.train_epoch()
            val_loss, iou, accuracy = self.evaluate(self.val_loader)
            miou = iou.mean().item()
            self.history.append((train_loss, val_loss, miou))
            print(f"[{epoch + 1:2d}/{self.epochs}] train_loss={train_loss:.4f} val_loss={val_loss:.4f} "
                  f"mIoU={miou:.4f} pixel_acc={accuracy:.4f}")
            if miou > self.best_miou:
                self.best_miou = miou
                self.best_state = copy.deepcopy(self.model.state_dict())
        self.model.load_state_dict(self.best_state)


def main():
    random.seed(0)
    torch.manual_seed(0)

    data = Shapes(train=True, count=1900)
    images, masks = torch.stack(data.images), torch.stack(data.masks)
    order = torch.randperm(len(images))
    train_idx, val_idx = order[:1600], order[1600:]

    train_loader = DataLoader(
        SegmentationDataset(images[train_idx], masks[train_idx], augment=True), batch_size=32, shuffle=True
    )
    val_loader = DataLoader(SegmentationDataset(images[val_idx], masks[val_idx]), batch_size=100)

    test = Shapes(train=False, count=300)
    test_loader = DataLoader(
        SegmentationDataset(torch.stack(test.images), torch.stack(test.masks)), batch_size=100
    )

    device = "cuda" if torch.cuda.is_available() else "cpu"
    trainer = Trainer(LinkNet(len(CLASSES)), train_loader, val_loader, device=device)
    trainer.fit()

    _, iou, accuracy = trainer.evaluate(test_loader)
    for name, value in zip(CLASSES, iou.tolist()):
        print(f"test IoU {name:>10}: {value:.4f}")
    print(f"test mIoU {iou.mean().item():.4f}, pixel accuracy {accuracy:.4f}, best val mIoU {trainer.best_miou:.4f}")


if __name__ == "__main__":
    main()
