"""Waves of four kinds with a residual network of 26 layers, group norm and batches of eight."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves

cfg = {
    "arch": {"blocks": (4, 4, 4), "width": 16, "groups": 4},
    "data": {"train": 1000, "val": 300, "batch_size": 8},
    "optim": {"lr": 1e-3, "weight_decay": 0.01},
}


class BasicBlock1d(nn.Module):
    def __init__(self, inputs, outputs, stride, groups):
        super().__init__()
        self.conv1 = nn.Conv1d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(groups, outputs)
        self.conv2 = nn.Conv1d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, outputs)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv1d(inputs, outputs, 1, stride=stride, bias=False), nn.GroupNorm(groups, outputs)
            )

    def forward(self, x):
        out = F.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class ResNet1d(nn.Module):
    def __init__(self, num_classes, blocks, width, groups):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv1d(1, width, 7, stride=2, padding=3, bias=False), nn.GroupNorm(groups, width), nn.ReLU()
        )
        stages, channels = [], width
        for i, depth in enumerate(blocks):
            outputs = width if i == 0 else 2 * width
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                stages.append(BasicBlock1d(channels, outputs, stride, groups))
                channels = outputs
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(channels, num_classes)
        self.reset_parameters()

    def reset_parameters(self):
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.GroupNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x):
        return self.fc(self.stages(self.stem(x)).mean(dim=2))


def build_optimizer(params):
    return torch.optim.AdamW(params, lr=cfg["optim"]["lr"], weight_decay=cfg["optim"]["weight_decay"])


def setup():
    torch.manual_seed(13)
    data = cfg["data"]
    train_set = TensorDataset(*waves(data["train"], seed=0))
    val_set = TensorDataset(*waves(data["val"], seed=1))
    return {
        "model": ResNet1d(4, **cfg["arch"]),
        "train": DataLoader(train_set, batch_size=data["batch_size"], shuffle=True),
        "val": DataLoader(val_set, batch_size=100),
        "optimizer": build_optimizer,
        "task": "classify",
    }
