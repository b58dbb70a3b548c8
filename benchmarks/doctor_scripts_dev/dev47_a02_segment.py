"""Segmentation of shapes, after references/segmentation of torchvision."""

import os
import random
import tempfile

import numpy as np
import torch
import torch.utils.data
from torch import nn
from torch.nn import functional as F

import toydata


class RandomHorizontalFlip:
    def __init__(self, flip_prob):
        self.flip_prob = flip_prob

    def __call__(self, image, target):
        if random.random() < self.flip_prob:
            image = image[:, ::-1]
            target = target[:, ::-1]
        return image, target


class ToTensor:
    def __call__(self, image, target):
        image = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        target = torch.from_numpy(np.ascontiguousarray(target)).long()
        return image.float() / 255, target


class Normalize:
    def __init__(self, mean, std):
        self.mean = torch.tensor(mean).view(3, 1, 1)
        self.std = torch.tensor(std).view(3, 1, 1)

    def __call__(self, image, target):
        return (image - self.mean) / self.std, target


def get_transform(train):
    transforms = [RandomHorizontalFlip(0.5)] if train else []
    return transforms + [ToTensor(), Normalize((0.5, 0.47, 0.5), (0.2, 0.15, 0.2))]


class ShapesSegmentation(torch.utils.data.Dataset):
    def __init__(self, image_set, transforms):
        shapes = toydata.Shapes(train=image_set == "train", size=24)
        self.images = [(image.permute(1, 2, 0) * 255).byte().contiguous().numpy() for image in shapes.images]
        self.masks = [mask.byte().numpy() for mask in shapes.masks]
        self.transforms = transforms

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image, target = self.images[idx], self.masks[idx]
        for transform in self.transforms:
            image, target = transform(image, target)
        return image, target


def conv_bn(inplanes, planes, stride=1):
    return nn.Sequential(
        nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False), nn.BatchNorm2d(planes), nn.ReLU(inplace=True)
    )


class UNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.enc1 = conv_bn(3, 16)
        self.enc2 = nn.Sequential(conv_bn(16, 32, 2), conv_bn(32, 32))
        self.enc3 = nn.Sequential(conv_bn(32, 64, 2), conv_bn(64, 64))
        self.dec2 = conv_bn(64 + 32, 32)
        self.dec1 = conv_bn(32 + 16, 16)
        self.classifier = nn.Sequential(nn.Dropout2d(0.2), nn.Conv2d(16, num_classes, 1))
        self.aux_classifier = nn.Conv2d(64, num_classes, 1)

    def forward(self, x):
        low = self.enc1(x)
        mid = self.enc2(low)
        deep = self.enc3(mid)
        up = self.dec2(torch.cat([F.interpolate(deep, scale_factor=2.0), mid], dim=1))
        up = self.dec1(torch.cat([F.interpolate(up, scale_factor=2.0), low], dim=1))
        aux = F.interpolate(self.aux_classifier(deep), scale_factor=4.0, mode="bilinear", align_corners=False)
        return {"out": self.classifier(up), "aux": aux}


class ConfusionMatrix:
    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.mat = torch.zeros((num_classes, num_classes), dtype=torch.int64)

    def update(self, a, b):
        n = self.num_classes
        self.mat += torch.bincount(n * a + b, minlength=n**2).reshape(n, n)

    def compute(self):
        h = self.mat.float()
        acc_global = torch.diag(h).sum() / h.sum()
        return acc_global, torch.diag(h) / (h.sum(1) + h.sum(0) - torch.diag(h))


def criterion(inputs, target):
    losses = {name: F.cross_entropy(x, target, ignore_index=255) for name, x in inputs.items()}
    return losses["out"] + 0.5 * losses["aux"]


def train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch, print_freq=20):
    model.train()
    for i, (image, target) in enumerate(data_loader):
        loss = criterion(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        if i % print_freq == 0:
            print(f"Epoch: [{epoch}]  [{i}/{len(data_loader)}]  loss: {loss.item():.4f}")


def evaluate(model, data_loader, num_classes):
    model.eval()
    confmat = ConfusionMatrix(num_classes)
    with torch.no_grad():
        for image, target in data_loader:
            confmat.update(target.flatten(), model(image)["out"].argmax(1).flatten())
    acc_global, iou = confmat.compute()
    classes = ", ".join(f"{value * 100:.1f}" for value in iou.tolist())
    print(f"Test: global correct: {acc_global * 100:.1f}  IoU: [{classes}]  mean IoU: {iou.mean() * 100:.1f}")
    return iou.mean().item()


def main(epochs=8, batch_size=16, lr=0.05, num_classes=4):
    random.seed(1)
    torch.manual_seed(1)
    dataset = ShapesSegmentation("train", get_transform(train=True))
    dataset_test = ShapesSegmentation("val", get_transform(train=False))
    data_loader = torch.utils.data.DataLoader(dataset, batch_size=batch_size, shuffle=True, drop_last=True)
    data_loader_test = torch.utils.data.DataLoader(dataset_test, batch_size=1)

    model = UNet(num_classes)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    iters = len(data_loader) * epochs
    lr_scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=iters, power=0.9)

    best, output_dir = 0.0, tempfile.mkdtemp()
    for epoch in range(epochs):
        train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch)
        score = evaluate(model, data_loader_test, num_classes)
        if score > best:
            best = score
            torch.save({"model": model.state_dict(), "epoch": epoch}, os.path.join(output_dir, "model.pth"))
    print(f"Training done, best mean IoU {best * 100:.1f}")


if __name__ == "__main__":
    main()
