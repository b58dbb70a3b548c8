"""Masks of shapes with a small U-Net and an auxiliary head at half of the resolution (deep supervision)."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

IGNORE = 255
cfg = {"num_classes": 4, "width": 16, "aux_weight": 0.4, "lr": 3e-3, "batch_size": 32, "count": 600}


class ShapeMasks(Dataset):
    """Classes as in `Shapes.masks`: ground, square, disc, cross."""

    def __init__(self, train, count):
        self.shapes = Shapes(train=train, count=count)

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image, _ = self.shapes[index]
        mask = self.shapes.masks[index].clone()
        return (image - 0.5) / 0.25, mask


def conv_bn_relu(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class DeepSupervisedUNet(nn.Module):
    """In training (logits, logits of the auxiliary head), in evaluation the logits."""

    def __init__(self, num_classes, width):
        super().__init__()
        self.enc1 = conv_bn_relu(3, width)
        self.enc2 = conv_bn_relu(width, 2 * width)
        self.bottom = conv_bn_relu(2 * width, 2 * width)
        self.dec2 = conv_bn_relu(4 * width, 2 * width)
        self.dec1 = conv_bn_relu(3 * width, width)
        self.head = nn.Conv2d(width, num_classes, 1)
        self.aux_head = nn.Conv2d(2 * width, num_classes, 1)

    @staticmethod
    def up(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    def forward(self, x):
        e1 = self.enc1(x)
        e2 = self.enc2(F.max_pool2d(e1, 2))
        bottom = self.bottom(F.max_pool2d(e2, 2))
        d2 = self.dec2(torch.cat([self.up(bottom), e2], dim=1))
        d1 = self.dec1(torch.cat([self.up(d2), e1], dim=1))
        logits = self.head(d1)
        if self.training:
            return logits, self.up(self.aux_head(d2))
        return logits


class DeepSupervisionLoss(nn.Module):
    def __init__(self, aux_weight):
        super().__init__()
        self.aux_weight = aux_weight
        self.criterion = nn.CrossEntropyLoss(ignore_index=IGNORE)

    def forward(self, outputs, target):
        if isinstance(outputs, tuple):
            logits, aux = outputs
            return self.criterion(logits, target) + self.aux_weight * self.criterion(aux, target)
        return self.criterion(outputs, target)


def setup():
    torch.manual_seed(8)
    model = DeepSupervisedUNet(cfg["num_classes"], cfg["width"])
    train_set = ShapeMasks(True, cfg["count"])
    val_set = ShapeMasks(False, 160)
    return {
        "model": model,
        "train": DataLoader(train_set, batch_size=cfg["batch_size"], shuffle=True, drop_last=True),
        "val": DataLoader(val_set, batch_size=cfg["batch_size"]),
        "loss": DeepSupervisionLoss(cfg["aux_weight"]),
        "optimizer": torch.optim.Adam(model.parameters(), lr=cfg["lr"]),
        "task": "segment",
    }
