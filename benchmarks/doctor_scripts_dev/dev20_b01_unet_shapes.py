"""Semantic segmentation of colored shapes with a small U-Net, after the reference scripts of torchvision."""

import argparse
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

CLASSES = ("background", "square", "disc", "cross")
MEAN, STD = 0.5, 0.18


def random_flip(image, mask):
    if torch.rand(()) < 0.5:
        image, mask = image.flip(-1), mask.flip(-1)
    if torch.rand(()) < 0.5:
        image, mask = image.flip(-2), mask.flip(-2)
    return image, mask


class ShapesSegmentation(Dataset):
    def __init__(self, train, size, augment=False):
        shapes = Shapes(train=train, size=size)
        self.images, self.masks = shapes.images, shapes.masks
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, mask = self.images[index], self.masks[index]
        image = (image - MEAN) / STD
        if self.augment:
            image, mask = random_flip(image, mask)
        return image, mask


def double_conv(c_in, c_out):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
        nn.Conv2d(c_out, c_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, classes, width=12):
        super().__init__()
        self.enc1 = double_conv(3, width)
        self.enc2 = double_conv(width, 2 * width)
        self.bottom = double_conv(2 * width, 4 * width)
        self.pool = nn.MaxPool2d(2)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.dec2 = double_conv(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.dec1 = double_conv(2 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        skip1 = self.enc1(x)
        skip2 = self.enc2(self.pool(skip1))
        x = self.bottom(self.pool(skip2))
        x = self.dec2(torch.cat([skip2, self.up2(x)], dim=1))
        x = self.dec1(torch.cat([skip1, self.up1(x)], dim=1))
        return self.head(x)


def criterion(logits, masks):
    flat = logits.permute(0, 2, 3, 1).reshape(-1, logits.size(1))
    return F.cross_entropy(flat, masks.reshape(-1))


class ConfusionMatrix:
    def __init__(self, classes):
        self.classes = classes
        self.matrix = torch.zeros(classes, classes, dtype=torch.long)

    def update(self, target, prediction):
        index = self.classes * target.flatten() + prediction.flatten()
        self.matrix += torch.bincount(index, minlength=self.classes**2).reshape(self.classes, self.classes)

    def compute(self):
        matrix = self.matrix.double()
        hits = matrix.diag()
        accuracy = hits.sum() / matrix.sum()
        iou = hits / (matrix.sum(0) + matrix.sum(1) - hits).clamp(min=1)
        return accuracy.item(), iou


def train_one_epoch(model, loader, optimizer, scheduler):
    model.train()
    total, count = 0.0, 0
    for images, masks in loader:
        optimizer.zero_grad()
        loss = criterion(model(images), masks)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item() * len(images)
        count += len(images)
    return total / count


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    confusion = ConfusionMatrix(len(CLASSES))
    for images, masks in loader:
        confusion.update(masks, model(images).argmax(1))
    return confusion.compute()


def main(args):
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    train_set = ShapesSegmentation(train=True, size=args.size, augment=True)
    val_set = ShapesSegmentation(train=False, size=args.size)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=args.batch_size)

    model = UNet(len(CLASSES))
    optimizer = torch.optim.SGD(
        model.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=args.weight_decay
    )
    scheduler = torch.optim.lr_scheduler.PolynomialLR(
        optimizer, total_iters=args.epochs * len(train_loader), power=0.9
    )

    start = time.time()
    for epoch in range(args.epochs):
        loss = train_one_epoch(model, train_loader, optimizer, scheduler)
        accuracy, iou = evaluate(model, val_loader)
        print(f"epoch {epoch:2d}  loss {loss:.4f}  pixel accuracy {accuracy:.4f}  mIoU {iou.mean().item():.4f}")
    for name, value in zip(CLASSES, iou.tolist()):
        print(f"  IoU of {name}: {value:.3f}")
    print(f"training took {time.time() - start:.0f} s")


def get_args_parser():
    parser = argparse.ArgumentParser(description="segmentation of shapes")
    parser.add_argument("--size", default=24, type=int)
    parser.add_argument("--epochs", default=16, type=int)
    parser.add_argument("--batch-size", default=20, type=int)
    parser.add_argument("--lr", default=0.05, type=float)
    parser.add_argument("--weight-decay", default=1e-4, type=float)
    parser.add_argument("--seed", default=0, type=int)
    return parser


if __name__ == "__main__":
    main(get_args_parser().parse_args())
