"""Segmentation in small batches: group norm, and an auxiliary head while training."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

IGNORE = 255


class ShapeMasks(Dataset):
    def __init__(self, train):
        self.shapes = Shapes(train=train, count=480 if train else 120)

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image = (self.shapes.images[index] - 0.5) / 0.2
        mask = self.shapes.masks[index].clone()
        return image, mask


def block(inputs, outputs, stride=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(4, outputs),
        nn.ReLU(inplace=True),
    )


class DeeplySupervisedNet(nn.Module):
    def __init__(self, classes=4, width=16):
        super().__init__()
        self.down1 = nn.Sequential(block(3, width), block(width, width))
        self.down2 = nn.Sequential(block(width, 2 * width, stride=2), block(2 * width, 2 * width))
        self.down3 = nn.Sequential(block(2 * width, 2 * width, stride=2), block(2 * width, 2 * width))
        self.up2 = block(4 * width, 2 * width)
        self.up1 = block(3 * width, width)
        self.classifier = nn.Conv2d(width, classes, 1)
        self.aux_classifier = nn.Conv2d(2 * width, classes, 1)

    def forward(self, x):
        d1 = self.down1(x)
        d2 = self.down2(d1)
        d3 = self.down3(d2)
        u2 = self.up2(torch.cat([F.interpolate(d3, scale_factor=2.0), d2], dim=1))
        u1 = self.up1(torch.cat([F.interpolate(u2, scale_factor=2.0), d1], dim=1))
        out = self.classifier(u1)
        if self.training:
            aux = F.interpolate(self.aux_classifier(u2), size=x.shape[-2:], mode="bilinear", align_corners=False)
            return out, aux
        return out


class DeepSupervisionLoss(nn.Module):
    def __init__(self, aux_weight=0.4):
        super().__init__()
        self.aux_weight = aux_weight
        self.ce = nn.CrossEntropyLoss(ignore_index=IGNORE)

    def forward(self, outputs, target):
        if isinstance(outputs, (tuple, list)):
            out, aux = outputs
            return self.ce(out, target) + self.aux_weight * self.ce(aux, target)
        return self.ce(outputs, target)


def setup():
    torch.manual_seed(0)
    model = DeeplySupervisedNet()
    return {
        "model": model,
        "train": DataLoader(ShapeMasks(True), batch_size=8, shuffle=True),
        "val": DataLoader(ShapeMasks(False), batch_size=24),
        "loss": DeepSupervisionLoss(),
        "optimizer": torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4),
        "task": "segment",
    }
