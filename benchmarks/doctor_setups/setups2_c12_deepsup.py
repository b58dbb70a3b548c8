"""Segmentation of shapes with deep supervision: an auxiliary head on the coarse map."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

AUX_WEIGHT = 0.4
NUM_CLASSES = 4  # ground, square, disc, cross


class ShapeMasks(Dataset):
    def __init__(self, train):
        shapes = Shapes(train=train)
        self.images, self.masks, self.train = shapes.images, shapes.masks, train

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, mask = (self.images[index] - 0.5) / 0.2, self.masks[index]
        if self.train and torch.rand(()) < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        return image, mask


def double_conv(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
    )


class SupervisedUNet(nn.Module):
    def __init__(self, width=16, num_classes=NUM_CLASSES):
        super().__init__()
        self.down1 = double_conv(3, width)
        self.down2 = double_conv(width, 2 * width)
        self.bottom = double_conv(2 * width, 2 * width)
        self.up2 = double_conv(4 * width, 2 * width)
        self.up1 = double_conv(3 * width, width)
        self.head = nn.Conv2d(width, num_classes, 1)
        self.aux_head = nn.Conv2d(2 * width, num_classes, 1)

    def forward(self, x):
        size = x.shape[-2:]
        d1 = self.down1(x)
        d2 = self.down2(F.max_pool2d(d1, 2))
        b = self.bottom(F.max_pool2d(d2, 2))
        u2 = self.up2(torch.cat([F.interpolate(b, scale_factor=2), d2], dim=1))
        u1 = self.up1(torch.cat([F.interpolate(u2, scale_factor=2), d1], dim=1))
        main = self.head(u1)
        if not self.training:
            return main
        aux = F.interpolate(self.aux_head(u2), size=size, mode="bilinear", align_corners=False)
        return main, aux


def criterion(outputs, masks):
    if isinstance(outputs, tuple):
        main, aux = outputs
        return F.cross_entropy(main, masks) + AUX_WEIGHT * F.cross_entropy(aux, masks)
    return F.cross_entropy(outputs, masks)


def train_step(model, batch, optimizer, loss_fn):
    images, masks = batch
    model.train()
    main, aux = model(images)
    loss = loss_fn(main, masks) + AUX_WEIGHT * loss_fn(aux, masks)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def setup():
    torch.manual_seed(6)
    model = SupervisedUNet()
    return {
        "model": model,
        "train": DataLoader(ShapeMasks(train=True), batch_size=32, shuffle=True, drop_last=True),
        "val": DataLoader(ShapeMasks(train=False), batch_size=60),
        "loss": criterion,
        "optimizer": torch.optim.AdamW(model.parameters(), lr=2e-3),
        "step": train_step,
        "task": "segment",
    }
