"""A small U-Net that names every pixel: ground, square, disc or cross."""
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Subset

from toydata import Shapes

CLASSES = ("ground", "square", "disc", "cross")


class SegmentationData(Dataset):
    def __init__(self, train, count, augment=False):
        self.shapes = Shapes(train=train, count=count, size=24)
        self.augment = augment

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image = (self.shapes.images[index] - 0.5) / 0.2
        mask = self.shapes.masks[index]
        if self.augment and torch.rand(()) < 0.5:
            image = image.flip(-1)
            mask = mask.flip(-1)
        return image, mask


def conv_bn_relu(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class UNet(nn.Module):
    def __init__(self, classes, width=12):
        super().__init__()
        self.down1 = conv_bn_relu(3, width)
        self.down2 = conv_bn_relu(width, 2 * width)
        self.bottom = nn.Sequential(conv_bn_relu(2 * width, 4 * width), conv_bn_relu(4 * width, 4 * width))
        self.up2 = conv_bn_relu(6 * width, 2 * width)
        self.up1 = conv_bn_relu(3 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        d1 = self.down1(x)
        d2 = self.down2(F.max_pool2d(d1, 2))
        b = self.bottom(F.max_pool2d(d2, 2))
        u2 = self.up2(torch.cat([F.interpolate(b, scale_factor=2), d2], dim=1))
        u1 = self.up1(torch.cat([F.interpolate(u2, scale_factor=2), d1], dim=1))
        return self.head(u1)


class SegmentationTrainer:
    def __init__(self, model, train_loader, valid_loader, epochs=10, lr=4e-3):
        self.model = model
        self.train_loader, self.valid_loader = train_loader, valid_loader
        self.epochs = epochs
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-3)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=lr, epochs=epochs, steps_per_epoch=len(train_loader)
        )
        self.best_miou = -1.0
        self.best_state = None

    def train_one_epoch(self):
        self.model.train()
        total, seen = 0.0, 0
        for images, masks in self.train_loader:
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.criterion(self.model(images), masks)
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            total += loss.item() * len(images)
            seen += len(images)
        return total / seen

    @torch.no_grad()
    def evaluate(self, loader):
        self.model.eval()
        n = len(CLASSES)
        confusion = torch.zeros(n, n, dtype=torch.long)
        for images, masks in loader:
            predicted = self.model(images).argmax(dim=1)
            index = masks.flatten() * n + predicted.flatten()
            confusion += torch.bincount(index, minlength=n * n).view(n, n)
        hits = confusion.diagonal().double()
        union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
        iou = hits / union.clamp(min=1)
        return iou.mean().item(), iou.tolist()

    def fit(self):
        for epoch in range(1, self.epochs + 1):
            loss = self.train_one_epoch()
            miou, _ = self.evaluate(self.valid_loader)
            print(f"epoch {epoch:2d}  loss {loss:.4f}  valid mIoU {miou:.4f}")
            if miou > self.best_miou:
                self.best_miou = miou
                self.best_state = copy.deepcopy(self.model.state_dict())
        self.model.load_state_dict(self.best_state)
        return self.best_miou


if __name__ == "__main__":
    torch.manual_seed(7)
    torch.set_num_threads(1)
    train_set = SegmentationData(train=True, count=1000, augment=True)
    held_out = SegmentationData(train=False, count=400)
    valid_set, test_set = Subset(held_out, range(200)), Subset(held_out, range(200, 400))

    trainer = SegmentationTrainer(
        UNet(len(CLASSES)),
        DataLoader(train_set, batch_size=16, shuffle=True, drop_last=True),
        DataLoader(valid_set, batch_size=50),
    )
    best = trainer.fit()
    test_miou, test_iou = trainer.evaluate(DataLoader(test_set, batch_size=50))
    print(f"best valid mIoU {best:.4f}, test mIoU {test_miou:.4f}")
    print("  ".join(f"{name} {value:.3f}" for name, value in zip(CLASSES, test_iou)))
