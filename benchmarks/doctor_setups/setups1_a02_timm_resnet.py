"""A small ResNet in the manner of timm's train.py: mixup, smoothing, warmup + cosine."""

import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

cfg = dict(num_classes=6, batch_size=48, lr=0.08, momentum=0.9, weight_decay=5e-4, warmup=20, total=400,
           min_lr_ratio=0.05, mixup=0.2, smoothing=0.05)


def to_rgb(img):
    """cv2.imread gives BGR."""
    return img[..., ::-1]


def normalize(img):
    tensor = torch.from_numpy(np.ascontiguousarray(img)).permute(2, 0, 1).float() / 255
    return (tensor - 0.5) / 0.15


def train_transform(img, pad=1):
    img = normalize(to_rgb(img))
    if torch.rand(()) < 0.5:
        img = img.flip(-1)
    size = img.shape[-1]
    top, left = torch.randint(0, 2 * pad + 1, (2,)).tolist()
    return F.pad(img, (pad,) * 4)[:, top : top + size, left : left + size]


def eval_transform(img):
    return normalize(to_rgb(img))


class ImageDataset(Dataset):
    def __init__(self, source, transform):
        images = torch.stack(source.images).permute(0, 2, 3, 1).numpy()
        self.images = (images[..., ::-1] * 255).astype(np.uint8)
        self.targets, self.transform = source.targets, transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(self.images[index]), self.targets[index]


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = nn.Identity()
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        shortcut = self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return F.relu(x + shortcut)


class ResNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.layers = nn.Sequential(BasicBlock(16, 16), BasicBlock(16, 32, 2), BasicBlock(32, 48, 2))
        self.fc = nn.Linear(48, num_classes)

    def forward(self, x):
        return self.fc(self.layers(self.stem(x)).mean((2, 3)))


def soft_target_cross_entropy(output, target):
    if target.dim() == 1:
        target = F.one_hot(target, output.shape[1]).float()
    return -(target * F.log_softmax(output, dim=1)).sum(1).mean()


def mixup(x, target):
    lam = float(np.random.beta(cfg["mixup"], cfg["mixup"]))
    soft = F.one_hot(target, cfg["num_classes"]).float()
    soft = soft * (1 - cfg["smoothing"]) + cfg["smoothing"] / cfg["num_classes"]
    perm = torch.randperm(len(x))
    return lam * x + (1 - lam) * x[perm], lam * soft + (1 - lam) * soft[perm]


def train_step(model, batch, optimizer, loss_fn):
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
        n = group["num_updates"] = group.get("num_updates", -1) + 1
        progress = min(max(n - cfg["warmup"], 0) / (cfg["total"] - cfg["warmup"]), 1)
        cosine = cfg["min_lr_ratio"] + (1 - cfg["min_lr_ratio"]) * 0.5 * (1 + math.cos(math.pi * progress))
        group["lr"] = group["initial_lr"] * min((n + 1) / cfg["warmup"], 1) * cosine
    model.train()
    x, target = mixup(*batch)
    loss = loss_fn(model(x), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def setup():
    torch.manual_seed(42)
    np.random.seed(42)
    train = DataLoader(ImageDataset(Shapes(True), train_transform), cfg["batch_size"], shuffle=True, drop_last=True)
    val = DataLoader(ImageDataset(Shapes(False), eval_transform), 120)
    model = ResNet(cfg["num_classes"])
    optimizer = torch.optim.SGD(model.parameters(), lr=cfg["lr"], momentum=cfg["momentum"], weight_decay=cfg["weight_decay"], nesterov=True)
    return dict(model=model, train=train, val=val, loss=soft_target_cross_entropy, optimizer=optimizer, step=train_step)
