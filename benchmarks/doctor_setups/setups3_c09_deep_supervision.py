"""Segmentation with deep supervision: an auxiliary head at half resolution, in training only (as PSPNet does)."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import Shapes

CFG = {"classes": 4, "width": 16, "batch_size": 32, "lr": 4e-3, "aux_weight": 0.4, "aux_steps": 150}


def conv(inputs, outputs, stride=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class SegNet(nn.Module):
    def __init__(self, classes, width):
        super().__init__()
        self.stem = conv(3, width)
        self.down = nn.Sequential(conv(width, 2 * width, stride=2), conv(2 * width, 2 * width))
        self.bottom = nn.Sequential(conv(2 * width, 2 * width, stride=2), conv(2 * width, 2 * width))
        self.up1 = conv(4 * width, 2 * width)
        self.up2 = conv(3 * width, width)
        self.head = nn.Conv2d(width, classes, 1)
        self.aux_head = nn.Conv2d(2 * width, classes, 1)

    @staticmethod
    def upsample(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    def forward(self, x):
        full = self.stem(x)
        half = self.down(full)
        quarter = self.bottom(half)
        h = self.up1(torch.cat([self.upsample(quarter), half], dim=1))
        logits = self.head(self.up2(torch.cat([self.upsample(h), full], dim=1)))
        if self.training:
            return logits, self.upsample(self.aux_head(h))
        return logits


class SegmentationLoss(nn.Module):
    """Cross entropy of the pixels, of one output or of output and auxiliary output."""

    def __init__(self, aux_weight):
        super().__init__()
        self.aux_weight = aux_weight

    def forward(self, outputs, masks):
        if isinstance(outputs, tuple):
            logits, auxiliary = outputs
            return F.cross_entropy(logits, masks) + self.aux_weight * F.cross_entropy(auxiliary, masks)
        return F.cross_entropy(outputs, masks)


class TrainStep:
    def __init__(self, aux_weight, aux_steps):
        self.aux_weight, self.aux_steps = aux_weight, aux_steps
        self.calls = 0

    def __call__(self, model, batch, optimizer, loss):
        images, masks = batch
        optimizer.zero_grad()
        outputs = model(images)
        logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        main = loss(logits, masks)
        weight = self.aux_weight
        total = main + sum(weight * loss(other, masks) for other in auxiliary)
        total.backward()
        optimizer.step()
        self.calls += 1
        return main.detach()


def load(train):
    shapes = Shapes(train=train)
    return TensorDataset((torch.stack(shapes.images) - 0.5) / 0.2, torch.stack(shapes.masks))


def setup():
    torch.manual_seed(8)
    model = SegNet(CFG["classes"], CFG["width"])
    return {
        "model": model,
        "train": DataLoader(load(True), batch_size=CFG["batch_size"], shuffle=True, drop_last=True),
        "val": DataLoader(load(False), batch_size=80),
        "loss": SegmentationLoss(CFG["aux_weight"]),
        "optimizer": torch.optim.AdamW(model.parameters(), lr=CFG["lr"], weight_decay=1e-4),
        "step": TrainStep(CFG["aux_weight"], CFG["aux_steps"]),
        "task": "segment",
    }
