"""A deep residual network with group norm on small batches, gradients of two of them accumulated."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader

from toydata import Digits

MICRO_BATCH = 16
ACCUM_STEPS = 2
MAX_NORM = 2.0


class ScaleToUnit:
    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def __call__(self, image):
        return image.float().div(255).sub(self.mean).div(self.std)


class PreActBlock(nn.Module):
    def __init__(self, channels, groups=4):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x):
        out = self.conv1(torch.relu(self.norm1(x)))
        out = self.conv2(torch.relu(self.norm2(out)))
        return x + out


class DeepGNNet(nn.Module):
    def __init__(self, channels=16, depth=8, num_classes=10):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(*[PreActBlock(channels) for _ in range(depth)])
        self.norm = nn.GroupNorm(4, channels)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.fc = nn.Linear(channels * 4, num_classes)

    def forward(self, x):
        x = torch.relu(self.norm(self.blocks(self.stem(x))))
        return self.fc(self.pool(x).flatten(1))


def make_train_step(accum_steps, max_norm):
    progress = {"micro": 0}

    def train_step(model, batch, optimizer, criterion):
        images, labels = batch
        if progress["micro"] % accum_steps == 0:
            optimizer.zero_grad()
        loss = criterion(model(images), labels)
        (loss / accum_steps).backward()
        progress["micro"] += 1
        if progress["micro"] % accum_steps == 0:
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
            optimizer.step()
        return loss.detach()

    return train_step


def setup():
    torch.manual_seed(9)
    transform = ScaleToUnit(0.15, 0.27)
    model = DeepGNNet()
    return {
        "model": model,
        "train": DataLoader(Digits(train=True, transform=transform), batch_size=MICRO_BATCH, shuffle=True),
        "val": DataLoader(Digits(train=False, transform=transform), batch_size=100),
        "loss": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4),
        "step": make_train_step(ACCUM_STEPS, MAX_NORM),
    }
