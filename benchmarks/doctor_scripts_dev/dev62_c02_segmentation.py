"""Semantic segmentation in the manner of torchvision's references/segmentation."""

import argparse

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

CLASSES = ("background", "square", "disc", "cross")
MEAN, STD = 0.5, 0.2
IGNORE = 255


class ShapeMasks(Dataset):
    def __init__(self, train, hflip_prob=0.0):
        shapes = Shapes(train=train)
        self.images, self.masks = shapes.images, [self.prepare(mask) for mask in shapes.masks]
        self.hflip_prob = hflip_prob

    @staticmethod
    def prepare(mask):
        return mask.clone()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, target = self.images[index], self.masks[index]
        if torch.rand(()) < self.hflip_prob:
            image, target = image.flip(-1), target.flip(-1)
        return (image - MEAN) / STD, target


def block(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, num_classes, width=12):
        super().__init__()
        self.down1 = block(3, width)
        self.down2 = block(width, 2 * width)
        self.bottom = block(2 * width, 4 * width)
        self.up2 = block(6 * width, 2 * width)
        self.up1 = block(3 * width, width)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, x):
        first = self.down1(x)
        second = self.down2(F.max_pool2d(first, 2))
        x = self.bottom(F.max_pool2d(second, 2))
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = self.up2(torch.cat([x, second], 1))
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = self.up1(torch.cat([x, first], 1))
        return {"out": self.classifier(x)}


class ConfusionMatrix:
    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.mat = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, a, b):
        n = self.num_classes
        k = (a >= 0) & (a < n)
        inds = n * a[k] + b[k]
        self.mat += torch.bincount(inds, minlength=n**2).reshape(n, n)

    def compute(self):
        h = self.mat.float()
        acc_global = torch.diag(h).sum() / h.sum()
        iu = torch.diag(h) / (h.sum(1) + h.sum(0) - torch.diag(h)).clamp(min=1)
        return acc_global, iu

    def __str__(self):
        acc_global, iu = self.compute()
        per_class = ", ".join(f"{name} {100 * value:.1f}" for name, value in zip(CLASSES, iu.tolist()))
        return f"global correct: {100 * acc_global:.1f}, IoU: {per_class}, mean IoU: {100 * iu.mean():.1f}"


def criterion(inputs, target):
    return F.cross_entropy(inputs["out"], target, ignore_index=IGNORE)


def train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch):
    model.train()
    total = 0.0
    for image, target in data_loader:
        output = model(image)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        total += loss.item()
    print(f"Epoch [{epoch}] loss {total / len(data_loader):.4f} lr {optimizer.param_groups[0]['lr']:.5f}")


@torch.inference_mode()
def evaluate(model, data_loader):
    model.eval()
    confmat = ConfusionMatrix(len(CLASSES))
    for image, target in data_loader:
        output = model(image)["out"]
        confmat.update(target.flatten(), output.argmax(1).flatten())
    return confmat


def get_args_parser():
    parser = argparse.ArgumentParser(description="segmentation training")
    parser.add_argument("--batch-size", default=20, type=int)
    parser.add_argument("--epochs", default=6, type=int)
    parser.add_argument("--lr", default=0.05, type=float)
    parser.add_argument("--momentum", default=0.9, type=float)
    parser.add_argument("--weight-decay", default=1e-4, type=float)
    return parser


def main(args):
    torch.manual_seed(1)
    dataset, dataset_test = ShapeMasks(train=True, hflip_prob=0.5), ShapeMasks(train=False)
    data_loader = DataLoader(dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)
    data_loader_test = DataLoader(dataset_test, batch_size=40)
    model = UNet(len(CLASSES))
    optimizer = torch.optim.SGD(
        model.parameters(), lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay
    )
    iters = args.epochs * len(data_loader)
    lr_scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=iters, power=0.9)
    for epoch in range(args.epochs):
        train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch)
        print(evaluate(model, data_loader_test))


if __name__ == "__main__":
    main(get_args_parser().parse_args())
