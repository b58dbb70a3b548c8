"""Segmentation of shapes after torchvision's references/segmentation: presets, collate_fn, poly schedule."""

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class RandomHorizontalFlip:
    def __init__(self, flip_prob):
        self.flip_prob = flip_prob

    def __call__(self, image, target):
        if torch.rand(1) < self.flip_prob:
            image = np.flip(image, axis=1)
            target = np.flip(target, axis=1)
        return image, target


class RandomCrop:
    """Pads (the target with 255, which is ignored) and crops to the old size."""

    def __init__(self, pad):
        self.pad = pad

    def __call__(self, image, target):
        height, width = target.shape
        image = np.pad(image, ((self.pad, self.pad), (self.pad, self.pad), (0, 0)), constant_values=128)
        target = np.pad(target, self.pad, constant_values=255)
        top, left = torch.randint(0, 2 * self.pad + 1, (2,)).tolist()
        return image[top : top + height, left : left + width], target[top : top + height, left : left + width]


class ToTensor:
    def __call__(self, image, target):
        image = torch.from_numpy(np.ascontiguousarray(image))
        image = image.permute(2, 0, 1).float() / 255
        return (image - 0.5) / 0.2, torch.from_numpy(np.ascontiguousarray(target)).long()


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image, target):
        for t in self.transforms:
            image, target = t(image, target)
        return image, target


class SegmentationDataset(Dataset):
    def __init__(self, train, transforms):
        source = Shapes(train)
        self.images = [(image.permute(1, 2, 0).numpy() * 255).astype(np.uint8) for image in source.images]
        self.masks = [mask.numpy().astype(np.uint8) for mask in source.masks]
        self.transforms = transforms

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transforms(self.images[index], self.masks[index])


def collate_fn(batch):
    images, targets = zip(*batch)
    return torch.stack(images), torch.stack(targets)


def conv_bn(inp, out):
    return nn.Sequential(nn.Conv2d(inp, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


class UNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.enc1, self.enc2, self.enc3 = conv_bn(3, 16), conv_bn(16, 32), conv_bn(32, 32)
        self.dec2, self.dec1 = conv_bn(64, 32), conv_bn(48, 16)
        self.classifier = nn.Conv2d(16, num_classes, 1)

    def forward(self, x):
        e1 = self.enc1(x)
        e2 = self.enc2(F.max_pool2d(e1, 2))
        e3 = self.enc3(F.max_pool2d(e2, 2))
        d2 = self.dec2(torch.cat([F.interpolate(e3, size=e2.shape[-2:]), e2], dim=1))
        d1 = self.dec1(torch.cat([F.interpolate(d2, size=e1.shape[-2:]), e1], dim=1))
        return self.classifier(d1)


def criterion(output, target):
    return F.cross_entropy(output, target, ignore_index=255)


def train_one_iteration(model, batch, optimizer, criterion, total_iters=600, power=0.9):
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
        group["iters"] = group.get("iters", 0) + 1
        group["lr"] = group["initial_lr"] * max(1 - group["iters"] / total_iters, 0.02) ** power
    image, target = batch
    model.train()
    loss = criterion(model(image), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def setup():
    torch.manual_seed(0)
    train_preset = Compose([RandomHorizontalFlip(0.5), RandomCrop(2), ToTensor()])
    train = DataLoader(SegmentationDataset(True, train_preset), batch_size=32, shuffle=True, collate_fn=collate_fn, drop_last=True)
    val = DataLoader(SegmentationDataset(False, Compose([ToTensor()])), batch_size=60, collate_fn=collate_fn)
    model = UNet(num_classes=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    return {"model": model, "train": train, "val": val, "loss": criterion, "optimizer": optimizer,
            "step": train_one_iteration, "task": "segment"}
