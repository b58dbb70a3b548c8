"""Semantic segmentation of shapes, after torchvision/references/segmentation/train.py."""

from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image, target):
        for t in self.transforms:
            image, target = t(image, target)
        return image, target


class ToTensor:  # and Normalize
    def __call__(self, image, target):
        image = (torch.from_numpy(image).permute(2, 0, 1).float().div(255) - 0.48) / 0.2
        target = torch.from_numpy(target).long()
        return image, target


class RandomHorizontalFlip:
    def __call__(self, image, target):
        if torch.rand(()) < 0.5:
            image = image.flip(-1)
            target = target.flip(-1)
        return image, target


class RandomCrop:
    def __init__(self, size, padding=2):
        self.size, self.padding = size, padding

    def __call__(self, image, target):
        image = F.pad(image, [self.padding] * 4, value=0.1)
        target = F.pad(target, [self.padding] * 4, value=255)
        top, left = torch.randint(0, 2 * self.padding + 1, (2,)).tolist()
        window = (..., slice(top, top + self.size), slice(left, left + self.size))
        return image[window], target[window]


class ShapesSegmentation(Dataset):
    def __init__(self, image_set, transforms):
        shapes = Shapes(train=image_set == "train", size=24)
        self.images = [(i.permute(1, 2, 0).numpy() * 255).astype(np.uint8) for i in shapes.images]
        self.masks = [m.numpy().astype(np.uint8) for m in shapes.masks]
        self.transforms = transforms

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transforms(self.images[index], self.masks[index])


class ConvBNReLU(nn.Sequential):
    def __init__(self, cin, cout, k=3):
        super().__init__(nn.Conv2d(cin, cout, k, padding=k // 2, bias=False), nn.BatchNorm2d(cout), nn.ReLU())


class UNet(nn.Module):
    def __init__(self, num_classes, width=12):
        super().__init__()
        self.enc1 = ConvBNReLU(3, width)
        self.enc2 = ConvBNReLU(width, 2 * width)
        self.mid = nn.Sequential(ConvBNReLU(2 * width, 4 * width), ConvBNReLU(4 * width, 2 * width))
        self.dec2 = ConvBNReLU(4 * width, width)
        self.dec1 = ConvBNReLU(2 * width, width)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, x):
        e1 = self.enc1(x)
        e2 = self.enc2(F.max_pool2d(e1, 2))
        d2 = self.dec2(torch.cat([F.interpolate(self.mid(F.max_pool2d(e2, 2)), scale_factor=2), e2], 1))
        d1 = self.dec1(torch.cat([F.interpolate(d2, scale_factor=2), e1], 1))
        return self.classifier(d1)


def criterion(inputs, target):
    valid = target != 255
    ce = F.cross_entropy(inputs, target, ignore_index=255)
    onehot = F.one_hot(target.masked_fill(~valid, 0), inputs.shape[1]).permute(0, 3, 1, 2) * valid[:, None]
    prob = inputs.softmax(1) * valid[:, None]
    overlap = (prob * onehot).sum((0, 2, 3))
    dice = (2 * overlap + 1) / (prob.sum((0, 2, 3)) + onehot.sum((0, 2, 3)) + 1)
    return ce + 1 - dice.mean()


def setup():
    torch.manual_seed(0)
    args = SimpleNamespace(epochs=60, batch_size=16, lr=0.05, momentum=0.9, weight_decay=1e-4)
    train_tf = Compose([ToTensor(), RandomHorizontalFlip(), RandomCrop(24)])
    val_tf = Compose([ToTensor()])
    data_loader = DataLoader(ShapesSegmentation("train", train_tf), args.batch_size, shuffle=True, drop_last=True)
    data_loader_test = DataLoader(ShapesSegmentation("val", val_tf), args.batch_size)
    model = UNet(num_classes=4)
    optimizer = torch.optim.SGD(model.parameters(), args.lr, args.momentum, weight_decay=args.weight_decay)
    total_iters = args.epochs * len(data_loader)

    def train_one_batch(model, batch, optimizer, criterion):
        for group in optimizer.param_groups:  # polynomial decay, once an iteration
            group["iteration"] = group.get("iteration", 0) + 1
            group["lr"] = args.lr * max(0.0, 1 - group["iteration"] / total_iters) ** 0.9
        model.train()
        loss = criterion(model(batch[0]), batch[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return dict(model=model, train=data_loader, val=data_loader_test, loss=criterion, optimizer=optimizer, step=train_one_batch, task="segment")
