"""Semantic segmentation of shapes, after the torchvision reference scripts."""

import argparse
import random

import torch
import torch.utils.data
from torch import nn
from torch.nn import functional as F

from toydata import Shapes


class RandomHorizontalFlip:
    def __init__(self, flip_prob):
        self.flip_prob = flip_prob

    def __call__(self, image, target):
        if random.random() < self.flip_prob:
            image = image.flip(-1)
            target = target.flip(-1)
        return image, target


class ShapesSegmentation(torch.utils.data.Dataset):
    def __init__(self, transforms=None, size=20, count=1000):
        source = Shapes(train=True, count=count, size=size)
        self.images, self.masks = source.images, source.masks
        self.transforms = transforms

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, target = self.images[index], self.masks[index]
        if self.transforms is not None:
            image, target = self.transforms(image, target)
        return (image - 0.5) / 0.15, target


def conv_bn(inp, out, stride=1):
    return nn.Sequential(nn.Conv2d(inp, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 16)
        self.layer1 = nn.Sequential(conv_bn(16, 32, 2), conv_bn(32, 32))
        self.layer2 = nn.Sequential(conv_bn(32, 48, 2), conv_bn(48, 48))

    def forward(self, x):
        low = self.stem(x)
        mid = self.layer1(low)
        return dict(low=low, mid=mid, out=self.layer2(mid))


class Head(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.fuse1 = conv_bn(48 + 32, 32)
        self.fuse2 = conv_bn(32 + 16, 24)
        self.predict = nn.Conv2d(24, num_classes, 1)

    def forward(self, features):
        x = F.interpolate(features["out"], size=features["mid"].shape[-2:], mode="bilinear", align_corners=False)
        x = self.fuse1(torch.cat([x, features["mid"]], dim=1))
        x = F.interpolate(x, size=features["low"].shape[-2:], mode="bilinear", align_corners=False)
        return self.predict(self.fuse2(torch.cat([x, features["low"]], dim=1)))


class SegmentationModel(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.backbone = Backbone()
        self.classifier = Head(num_classes)

    def forward(self, x):
        return {"out": self.classifier(self.backbone(x))}


class ConfusionMatrix:
    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.mat = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, a, b):
        n = self.num_classes
        k = (a >= 0) & (a < n)
        self.mat += torch.bincount(n * a[k] + b[k], minlength=n**2).reshape(n, n)

    def compute(self):
        h = self.mat.float()
        acc_global = torch.diag(h).sum() / h.sum()
        iu = torch.diag(h) / (h.sum(1) + h.sum(0) - torch.diag(h)).clamp(min=1)
        return acc_global, iu


def criterion(inputs, target):
    return F.cross_entropy(inputs["out"], target, ignore_index=255)


def evaluate(model, data_loader, num_classes):
    model.eval()
    confmat = ConfusionMatrix(num_classes)
    with torch.inference_mode():
        for image, target in data_loader:
            output = model(image)["out"]
            confmat.update(target.flatten(), output.argmax(1).flatten())
    return confmat


def train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch, print_freq):
    model.train()
    for i, (image, target) in enumerate(data_loader):
        output = model(image)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        if i % print_freq == 0:
            print(f"Epoch: [{epoch}] {i}/{len(data_loader)} lr {optimizer.param_groups[0]['lr']:.5f} loss {loss.item():.4f}")


def main(args):
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    num_classes = 4
    dataset = ShapesSegmentation(RandomHorizontalFlip(0.5))
    dataset_test = ShapesSegmentation()
    indices = torch.randperm(len(dataset)).tolist()
    dataset = torch.utils.data.Subset(dataset, indices[:-200])
    dataset_test = torch.utils.data.Subset(dataset_test, indices[-200:])
    data_loader = torch.utils.data.DataLoader(dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)
    data_loader_test = torch.utils.data.DataLoader(dataset_test, batch_size=50)

    model = SegmentationModel(num_classes)
    params_to_optimize = [
        {"params": [p for p in model.backbone.parameters() if p.requires_grad]},
        {"params": [p for p in model.classifier.parameters() if p.requires_grad]},
    ]
    optimizer = torch.optim.SGD(params_to_optimize, lr=args.lr, momentum=0.9, weight_decay=1e-4)
    iters = len(data_loader) * args.epochs
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda x: (1 - min(x, iters - 1) / iters) ** 0.9)

    for epoch in range(args.epochs):
        train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch, args.print_freq)
        acc_global, iu = evaluate(model, data_loader_test, num_classes).compute()
        print(f"Test: global correct {100 * acc_global:.1f} IoU {[f'{100 * i:.1f}' for i in iu.tolist()]} mean {100 * iu.mean():.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Segmentation Training")
    parser.add_argument("--batch-size", default=16, type=int)
    parser.add_argument("--epochs", default=6, type=int)
    parser.add_argument("--lr", default=0.05, type=float)
    parser.add_argument("--print-freq", default=10, type=int)
    parser.add_argument("--seed", default=0, type=int)
    main(parser.parse_args())
