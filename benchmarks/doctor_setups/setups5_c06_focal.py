"""Dense detection of shapes, in the manner of RetinaNet: class scores on a 4 x 4 grid, sigmoid focal loss."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes

GRID = 4


class CenterGrid(Dataset):
    """A map for each class that is 1 in the cell with the center of the shape."""

    def __init__(self, train):
        self.shapes = Shapes(train)

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image, label = self.shapes[index]
        left, top, right, bottom = self.shapes.boxes[index].tolist()
        col = min(int((left + right) / 2 * GRID), GRID - 1)
        row = min(int((top + bottom) / 2 * GRID), GRID - 1)
        target = torch.zeros(len(NAMES), GRID, GRID)
        target[label, row, col] = 1.0
        return (image - 0.5) / 0.25, target


class Head(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.cls = nn.Conv2d(channels, classes, 3, padding=1)
        nn.init.normal_(self.cls.weight, std=0.01)
        nn.init.constant_(self.cls.bias, -2.19)

    def forward(self, x):
        return self.cls(F.relu(self.conv(x)))


def conv_block(cin, cout, stride):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True)
    )


class Detector(nn.Module):
    def __init__(self, classes, width=24):
        super().__init__()
        self.backbone = nn.Sequential(
            conv_block(3, width, 1),
            conv_block(width, 2 * width, 2),
            conv_block(2 * width, 2 * width, 1),
            conv_block(2 * width, 2 * width, 2),
        )
        self.head = Head(2 * width, classes)

    def forward(self, images):
        return self.head(self.backbone(images))


class SigmoidFocalLoss(nn.Module):
    def __init__(self, alpha=0.25, gamma=2.0):
        super().__init__()
        self.alpha, self.gamma = alpha, gamma

    def forward(self, logits, targets):
        prob = logits.sigmoid()
        ce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        p_t = prob * targets + (1 - prob) * (1 - targets)
        alpha_t = self.alpha * targets + (1 - self.alpha) * (1 - targets)
        total = (alpha_t * (1 - p_t) ** self.gamma * ce).sum()
        return total / targets.sum().clamp(min=1.0)


def step(model, batch, optimizer, loss):
    images, targets = batch
    value = loss(model(images), targets)
    optimizer.zero_grad(set_to_none=True)
    value.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm=10.0)
    optimizer.step()
    return value


def setup():
    torch.manual_seed(5)
    train = DataLoader(CenterGrid(True), batch_size=32, shuffle=True, drop_last=True)
    val = DataLoader(CenterGrid(False), batch_size=80)
    model = Detector(len(NAMES))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
    return dict(model=model, train=train, val=val, loss=SigmoidFocalLoss(), optimizer=optimizer, step=step)
