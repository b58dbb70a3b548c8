"""Segmentation of shapes with deep supervision: a small U-Net with a head at each scale of its decoder."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

CLASSES, IGNORE = 4, 255


class ShapeMasks(Dataset):
    """Images and masks; training images are mirrored together with their masks."""

    def __init__(self, train):
        self.shapes, self.flip = Shapes(train), train

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image, mask = self.shapes.images[index], self.shapes.masks[index]
        image, mask = (image - 0.5) / 0.2, mask.clone()
        if self.flip and torch.rand(()) < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        return image, mask


def outline(mask):
    """Pixels with a neighbor of another class."""
    edge = torch.zeros_like(mask, dtype=torch.bool)
    across, down = mask[:, 1:] != mask[:, :-1], mask[1:] != mask[:-1]
    edge[:, 1:] |= across
    edge[1:] |= down
    return edge


def double_conv(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
        nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
    )


class UNetDS(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.down1, self.down2 = double_conv(3, width), double_conv(width, 2 * width)
        self.bottom = double_conv(2 * width, 4 * width)
        self.up2, self.up1 = double_conv(6 * width, 2 * width), double_conv(3 * width, width)
        self.head = nn.Conv2d(width, CLASSES, 1)
        self.aux2 = nn.Conv2d(2 * width, CLASSES, 1)
        self.aux3 = nn.Conv2d(4 * width, CLASSES, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.bottom(F.max_pool2d(b, 2))
        d = self.up2(torch.cat([F.interpolate(c, scale_factor=2), b], dim=1))
        e = self.up1(torch.cat([F.interpolate(d, scale_factor=2), a], dim=1))
        if self.training:
            return [self.head(e), self.aux2(d), self.aux3(c)]
        return self.head(e)


class DeepSupervisionLoss(nn.Module):
    def __init__(self, weights=(1.0, 0.4, 0.2)):
        super().__init__()
        self.weights = weights
        self.ce = nn.CrossEntropyLoss(ignore_index=IGNORE)

    def forward(self, outputs, target):
        if torch.is_tensor(outputs):
            return self.ce(outputs, target)
        total = 0.0
        for weight, logits in zip(self.weights, outputs):
            logits = F.interpolate(logits, size=target.shape[-2:], mode="bilinear", align_corners=False)
            total = total + weight * self.ce(logits, target)
        return total / sum(self.weights)


def setup():
    torch.manual_seed(8)
    train = DataLoader(ShapeMasks(True), batch_size=24, shuffle=True, drop_last=True)
    val = DataLoader(ShapeMasks(False), batch_size=60)
    model = UNetDS()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
    return dict(model=model, train=train, val=val, loss=DeepSupervisionLoss(), optimizer=optimizer, task="segment")
