"""Segmentation of shapes with a small U-Net; void pixels are 255, as in Pascal VOC."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

IGNORE = 255
CLASSES = 4  # background, square, disc, cross


def void_ring(mask):
    """The pixels just outside of the object, which annotators do not agree on."""
    inside = (mask > 0).float()[None, None]
    grown = F.max_pool2d(inside, 3, stride=1, padding=1)
    return ((grown > 0) & (inside == 0))[0, 0]


class SegmentationShapes(Dataset):
    def __init__(self, train):
        self.shapes, self.train = Shapes(train=train), train
        generator = torch.Generator().manual_seed(100)
        self.masks = []
        for mask in self.shapes.masks:
            label = mask.clone()
            label[void_ring(mask)] = IGNORE
            self.masks.append(label)

    def __len__(self):
        return len(self.masks)

    def __getitem__(self, index):
        image, mask = (self.shapes.images[index] - 0.5) / 0.25, self.masks[index]
        if self.train and torch.rand(()) < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        return image, mask


def double_conv(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(),
        nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(),
    )  # fmt: skip


class UNet(nn.Module):
    def __init__(self, n_classes, w=12):
        super().__init__()
        self.down1, self.down2, self.bottom = double_conv(3, w), double_conv(w, 2 * w), double_conv(2 * w, 4 * w)
        self.up2 = nn.ConvTranspose2d(4 * w, 2 * w, 2, stride=2)
        self.dec2 = double_conv(4 * w, 2 * w)
        self.up1 = nn.ConvTranspose2d(2 * w, w, 2, stride=2)
        self.dec1 = double_conv(2 * w, w)
        self.outc = nn.Conv2d(w, n_classes, 1)

    def forward(self, x):
        d1 = self.down1(x)
        d2 = self.down2(F.max_pool2d(d1, 2))
        h = self.bottom(F.max_pool2d(d2, 2))
        h = self.dec2(torch.cat([self.up2(h), d2], dim=1))
        h = self.dec1(torch.cat([self.up1(h), d1], dim=1))
        return self.outc(h)


def setup():
    torch.manual_seed(13)
    return {
        "model": UNet(CLASSES),
        "train": DataLoader(SegmentationShapes(train=True), batch_size=24, shuffle=True),
        "val": DataLoader(SegmentationShapes(train=False), batch_size=60),
        "loss": nn.CrossEntropyLoss(ignore_index=IGNORE),
        "optimizer": lambda params: torch.optim.AdamW(params, lr=3e-3, weight_decay=1e-4),
        "task": "segment",
    }
