"""A map of object centers, trained with the sigmoid focal loss (in the manner of RetinaNet heads)."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

PIXEL_MEAN, PIXEL_STD = 0.5, 0.2


class CenterMaps(Dataset):
    """An image and a map with ones in the 3 x 3 pixels at the center of the shape."""

    def __init__(self, train, size=16):
        shapes = Shapes(train=train, size=size)
        self.images = (torch.stack(shapes.images) - PIXEL_MEAN) / PIXEL_STD
        self.maps = torch.zeros(len(shapes), 1, size, size)
        for i, box in enumerate(shapes.boxes):
            left, top, right, bottom = (box * size).tolist()
            row, column = int((top + bottom) / 2), int((left + right) / 2)
            self.maps[i, 0, row - 1 : row + 2, column - 1 : column + 2] = 1.0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.maps[index]


class CenterHead(nn.Module):
    def __init__(self, channels=24, dilations=(1, 2, 4, 1)):
        super().__init__()
        layers, inputs = [], 3
        for dilation in dilations:
            layers += [
                nn.Conv2d(inputs, channels, 3, padding=dilation, dilation=dilation, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            ]
            inputs = channels
        self.tower = nn.Sequential(*layers)
        self.score = nn.Conv2d(channels, 1, 1)
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.constant_(self.score.bias, 0.0)

    def forward(self, x):
        return self.score(self.tower(x))


class SigmoidFocalLoss(nn.Module):
    def __init__(self, alpha=0.25, gamma=2.0):
        super().__init__()
        self.alpha, self.gamma = alpha, gamma

    def forward(self, logits, targets):
        p = torch.sigmoid(logits)
        ce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        p_t = p * targets + (1 - p) * (1 - targets)
        alpha_t = self.alpha * targets + (1 - self.alpha) * (1 - targets)
        loss = alpha_t * (1 - p_t) ** self.gamma * ce
        return loss.sum() / targets.sum().clamp(min=1.0)


def build_optimizer(params):
    return torch.optim.AdamW(params, lr=3e-3, weight_decay=1e-4)


def setup():
    torch.manual_seed(5)
    return {
        "model": CenterHead(),
        "train": DataLoader(CenterMaps(train=True), batch_size=32, shuffle=True, drop_last=True),
        "val": DataLoader(CenterMaps(train=False), batch_size=60),
        "loss": SigmoidFocalLoss(),
        "optimizer": build_optimizer,
    }
