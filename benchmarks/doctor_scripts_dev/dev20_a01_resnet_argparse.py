"""Train a small residual network on colored shapes, in the manner of the CIFAR-10 scripts.

    python a01_resnet_argparse.py --epochs 18 --lr 0.05
"""

import argparse
import random
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset

from toydata import NAMES, Shapes

MEAN, STD = (0.50, 0.45, 0.50), (0.18, 0.14, 0.18)


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image):
        for transform in self.transforms:
            image = transform(image)
        return image


class RandomCrop:
    def __init__(self, size, padding):
        self.size, self.padding = size, padding

    def __call__(self, image):
        image = F.pad(image, [self.padding] * 4, value=0.5)
        top = random.randint(0, image.shape[1] - self.size)
        left = random.randint(0, image.shape[2] - self.size)
        return image[:, top : top + self.size, left : left + self.size]


class RandomHorizontalFlip:
    def __call__(self, image):
        return image.flip(2) if random.random() < 0.5 else image


class Normalize:
    def __init__(self, mean, std):
        self.mean = torch.tensor(mean).view(3, 1, 1)
        self.std = torch.tensor(std).view(3, 1, 1)

    def __call__(self, image):
        return (image - self.mean) / self.std


class BasicBlock(nn.Module):
    def __init__(self, in_planes, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_planes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes)
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.layer1 = BasicBlock(16, 32, stride=2)
        self.layer2 = BasicBlock(32, 64, stride=2)
        self.linear = nn.Linear(64, num_classes)

    def forward(self, x):
        x = F.relu(self.bn(self.conv(x)))
        x = self.layer2(self.layer1(x))
        return self.linear(x.mean(dim=(2, 3)))


def get_loaders(args):
    train_transform = Compose([RandomCrop(16, padding=2), RandomHorizontalFlip(), Normalize(MEAN, STD)])
    valid_transform = Compose([Normalize(MEAN, STD)])
    train_set = Shapes(train=True, count=1800, transform=train_transform)
    valid_set = Shapes(train=False, count=400, transform=valid_transform)
    # one class after the other, as a folder of folders is read
    order = sorted(range(len(train_set)), key=lambda i: train_set.targets[i])
    train_loader = DataLoader(Subset(train_set, order), batch_size=args.batch_size, shuffle=True)
    valid_loader = DataLoader(valid_set, batch_size=256, shuffle=False)
    return train_loader, valid_loader


def train(model, loader, optimizer, scheduler):
    model.train()
    total, seen = 0.0, 0
    for data, target in loader:
        optimizer.zero_grad()
        output = model(data)
        loss = F.cross_entropy(output, target)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item() * len(target)
        seen += len(target)
    return total / seen


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    loss, correct = 0.0, 0
    for data, target in loader:
        output = model(data)
        loss += F.cross_entropy(output, target, reduction="sum").item()
        correct += (output.argmax(dim=1) == target).sum().item()
    loss /= len(loader.dataset)
    accuracy = 100.0 * correct / len(loader.dataset)
    return loss, accuracy


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--batch-size", type=int, default=60)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--milestones", type=int, nargs="+", default=[10, 15], help="epochs at which the rate falls")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    random.seed(args.seed)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)

    train_loader, valid_loader = get_loaders(args)
    model = ResNet(num_classes=len(NAMES))
    optimizer = torch.optim.SGD(
        model.parameters(), lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay, nesterov=True
    )
    steps = [epoch * len(train_loader) for epoch in args.milestones]
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=steps, gamma=0.1)

    for epoch in range(1, args.epochs + 1):
        start = time.time()
        train_loss = train(model, train_loader, optimizer, scheduler)
        valid_loss, accuracy = evaluate(model, valid_loader)
        print(
            f"epoch {epoch:2d}  train loss {train_loss:.4f}  valid loss {valid_loss:.4f}  "
            f"accuracy {accuracy:.2f}%  ({time.time() - start:.1f}s)"
        )


if __name__ == "__main__":
    main()
