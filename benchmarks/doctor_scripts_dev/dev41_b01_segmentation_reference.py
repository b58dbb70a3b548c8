"""Semantic segmentation of small shapes, in the manner of torchvision's reference scripts."""

import argparse
import os
import random
import tempfile

import torch
import torch.utils.data
from torch import nn
from torch.nn import functional as F

from toydata import Shapes


class SegmentationPreset:
    def __init__(self, train, size=32, padding=3, mean=(0.5, 0.455, 0.5), std=(0.175, 0.135, 0.175)):
        self.train, self.size, self.padding = train, size, padding
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)

    def __call__(self, image, target):
        if self.train:
            if random.random() < 0.5:
                image = image.flip(-1)
                target = target.flip(-1)
            pad = [self.padding] * 4
            image, target = F.pad(image, pad, value=0.5), F.pad(target, pad, value=255)
            top, left = random.randint(0, 2 * self.padding), random.randint(0, 2 * self.padding)
            image = image[:, top : top + self.size, left : left + self.size]
            target = target[top : top + self.size, left : left + self.size]
        return (image - self.mean) / self.std, target


class ShapesSegmentation(Shapes):
    def __init__(self, image_set, count, transforms):
        super().__init__(train=image_set == "train", count=count, size=32)
        self.transforms = transforms

    def __getitem__(self, index):
        return self.transforms(self.images[index], self.masks[index])


def double_conv(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
        nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, num_classes, width=12):
        super().__init__()
        self.down1, self.down2 = double_conv(3, width), double_conv(width, 2 * width)
        self.bridge = double_conv(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.dec2 = double_conv(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.dec1 = double_conv(2 * width, width)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        x = self.bridge(F.max_pool2d(b, 2))
        x = self.dec2(torch.cat([self.up2(x), b], dim=1))
        x = self.dec1(torch.cat([self.up1(x), a], dim=1))
        return {"out": self.head(x)}


def class_weights(dataset, num_classes):
    counts = torch.zeros(num_classes)
    for mask in dataset.masks:
        counts += torch.bincount(mask.flatten(), minlength=num_classes)
    frequency = counts / counts.sum()
    weights = frequency.rsqrt()
    return weights / weights.mean()


def criterion(inputs, target, weight):
    loss = F.cross_entropy(inputs["out"], target, weight=weight, ignore_index=255)
    return loss


def evaluate(model, data_loader, num_classes):
    model.eval()
    confmat = torch.zeros(num_classes**2)
    with torch.inference_mode():
        for image, target in data_loader:
            predicted = model(image)["out"].argmax(1)
            pairs = num_classes * target.flatten() + predicted.flatten()
            confmat += torch.bincount(pairs, minlength=num_classes**2)
    h = confmat.reshape(num_classes, num_classes)
    iu = torch.diag(h) / (h.sum(1) + h.sum(0) - torch.diag(h))
    return (torch.diag(h).sum() / h.sum()).item(), iu


def train_one_epoch(model, optimizer, data_loader, lr_scheduler, weight):
    model.train()
    total = 0.0
    for image, target in data_loader:
        loss = criterion(model(image), target, weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        total += loss.item()
    return total / len(data_loader)


def main(args):
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    num_classes = 4
    dataset = ShapesSegmentation("train", 600, SegmentationPreset(train=True))
    dataset_test = ShapesSegmentation("val", 160, SegmentationPreset(train=False))
    data_loader = torch.utils.data.DataLoader(dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)
    data_loader_test = torch.utils.data.DataLoader(dataset_test, batch_size=40)

    model = UNet(num_classes)
    weight = class_weights(dataset, num_classes)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-4)
    total_iters = len(data_loader) * args.epochs
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda x: (1 - x / total_iters) ** 0.9)

    checkpoint_path = os.path.join(tempfile.mkdtemp(), "model_best.pth")
    best_miou = -1.0
    for epoch in range(args.epochs):
        loss = train_one_epoch(model, optimizer, data_loader, lr_scheduler, weight)
        acc, iu = evaluate(model, data_loader_test, num_classes)
        miou = iu.mean().item()
        print(f"Epoch [{epoch}] loss {loss:.4f}  global correct {acc:.3f}  mean IoU {miou:.3f}")
        if miou > best_miou:
            best_miou = miou
            torch.save({"model": model.state_dict(), "epoch": epoch, "miou": miou}, checkpoint_path)

    checkpoint = torch.load(checkpoint_path, map_location="cpu")
    model = UNet(num_classes)
    model.load_state_dict(checkpoint["model"])
    acc, iu = evaluate(model, data_loader_test, num_classes)
    print(f"best of epoch {checkpoint['epoch']}: correct {acc:.3f}, IoU {[round(v, 3) for v in iu.tolist()]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Segmentation Training")
    parser.add_argument("-b", "--batch-size", default=30, type=int)
    parser.add_argument("--epochs", default=10, type=int)
    parser.add_argument("--lr", default=0.05, type=float)
    parser.add_argument("--seed", default=0, type=int)
    main(parser.parse_args())
