"""Segmentation of shapes, after torchvision/references/segmentation: presets, a small U-Net, focal and Dice loss, poly schedule."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

IGNORE = 255


class SegmentationPresetTrain:
    def __init__(self, hflip_prob=0.5, mean=0.5, std=0.25):
        self.hflip_prob, self.mean, self.std = hflip_prob, mean, std

    def __call__(self, image, target):
        if torch.rand(()) < self.hflip_prob:
            image = image.flip(-1)
            target = target.flip(-1)
        return (image - self.mean) / self.std, target


class SegmentationPresetEval:
    def __init__(self, mean=0.5, std=0.25):
        self.mean, self.std = mean, std

    def __call__(self, image, target):
        return (image - self.mean) / self.std, target


class ShapeMasks(Dataset):
    def __init__(self, image_set, transforms):
        self.shapes = Shapes(train=image_set == "train", count=720 if image_set == "train" else 160, size=24)
        self.transforms = transforms

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image, target = self.shapes.images[index], self.shapes.masks[index].clone()
        return self.transforms(image, target)


def double_conv(inplanes, planes):
    return nn.Sequential(
        nn.Conv2d(inplanes, planes, 3, padding=1, bias=False), nn.BatchNorm2d(planes), nn.ReLU(inplace=True),
        nn.Conv2d(planes, planes, 3, padding=1, bias=False), nn.BatchNorm2d(planes), nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, num_classes, width=12):
        super().__init__()
        self.down1 = double_conv(3, width)
        self.down2 = double_conv(width, 2 * width)
        self.bottom = double_conv(2 * width, 4 * width)
        self.up2 = double_conv(6 * width, 2 * width)
        self.up1 = double_conv(3 * width, width)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, x):
        d1 = self.down1(x)
        d2 = self.down2(F.max_pool2d(d1, 2))
        b = self.bottom(F.max_pool2d(d2, 2))
        u2 = self.up2(torch.cat([F.interpolate(b, scale_factor=2), d2], dim=1))
        u1 = self.up1(torch.cat([F.interpolate(u2, scale_factor=2), d1], dim=1))
        return self.classifier(u1)


def focal_loss(logits, target, gamma=2.0):
    ce = F.cross_entropy(logits, target, reduction="none", ignore_index=IGNORE)
    pt = torch.exp(-ce)
    focal = (1 - pt) ** gamma * ce
    return focal.sum() / (target != IGNORE).sum().clamp(min=1)


def dice_loss(logits, target, eps=1.0):
    valid = target != IGNORE
    onehot = F.one_hot(target.masked_fill(~valid, 0), logits.shape[1]).permute(0, 3, 1, 2) * valid[:, None]
    probs = logits.softmax(dim=1) * valid[:, None]
    inter = (probs * onehot).sum((0, 2, 3))
    total = probs.sum((0, 2, 3)) + onehot.sum((0, 2, 3))
    return 1 - ((2 * inter + eps) / (total + eps)).mean()


def criterion(logits, target):
    return focal_loss(logits, target) + 0.5 * dice_loss(logits, target)


def make_train_one_iter(args, total_iters):
    def train_one_iter(model, batch, optimizer, criterion):
        for group in optimizer.param_groups:
            it = group.setdefault("it", 0)
            group["lr"] = args.lr * (1 - min(it / total_iters, 1.0)) ** 0.9
            group["it"] = it + 1
        image, target = batch
        loss = criterion(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return train_one_iter


def setup():
    args = SimpleNamespace(batch_size=16, epochs=20, lr=0.05, momentum=0.9, weight_decay=1e-4)
    torch.manual_seed(0)
    dataset = ShapeMasks("train", SegmentationPresetTrain())
    dataset_test = ShapeMasks("val", SegmentationPresetEval())
    data_loader = DataLoader(dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)
    data_loader_test = DataLoader(dataset_test, batch_size=32)
    model = UNet(num_classes=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay)
    step = make_train_one_iter(args, total_iters=args.epochs * len(data_loader))
    return dict(model=model, train=data_loader, val=data_loader_test, loss=criterion, optimizer=optimizer, step=step, task="segment")
