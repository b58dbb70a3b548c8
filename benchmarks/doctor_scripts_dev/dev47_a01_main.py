"""Digits training, after the ImageNet example of pytorch/examples."""

import argparse
import os
import random
import shutil
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Subset

import toydata

parser = argparse.ArgumentParser(description="PyTorch Digits Training")
parser.add_argument("--epochs", default=12, type=int, metavar="N", help="number of total epochs to run")
parser.add_argument("-b", "--batch-size", default=64, type=int, metavar="N")
parser.add_argument("--lr", "--learning-rate", default=0.05, type=float, dest="lr")
parser.add_argument("--wd", "--weight-decay", default=1e-4, type=float, dest="weight_decay")
parser.add_argument("--clip-grad", default=5.0, type=float, help="largest norm of the gradient")
parser.add_argument("--seed", default=0, type=int)


def random_crop(image, padding=2):
    height, width = image.shape[-2:]
    image = F.pad(image, [padding] * 4)
    top, left = random.randint(0, 2 * padding), random.randint(0, 2 * padding)
    return image[:, top : top + height, left : left + width]


def random_erasing(image, p=0.5, side=5):
    if random.random() < p:
        image = image.clone()
        top = random.randint(0, image.shape[-2] - side)
        left = random.randint(0, image.shape[-1] - side)
        image[:, top : top + side, left : left + side] = 0
    return image


def eval_transform(image):
    return (image.float() / 255 - 0.17) / 0.3


def train_transform(image):
    return eval_transform(random_erasing(random_crop(image)))


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
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.downsample(x))


class ResNet(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.layers = nn.Sequential(BasicBlock(16, 16), BasicBlock(16, 32, 2), BasicBlock(32, 64, 2))
        self.fc = nn.Linear(64, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        return self.fc(self.layers(self.stem(x)).mean((2, 3)))


class AverageMeter:
    def __init__(self):
        self.sum = self.count = 0

    def update(self, value, n=1):
        self.sum += value * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(self.count, 1)


def train(train_loader, model, criterion, optimizer, scaler, epoch, device, args):
    losses = AverageMeter()
    model.train()
    for images, target in train_loader:
        images, target = images.to(device), target.to(device)
        with torch.autocast(device.type, dtype=torch.float16, enabled=device.type == "cuda"):
            loss = criterion(model(images), target)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        scaler.step(optimizer)
        scaler.update()
        losses.update(loss.item(), images.size(0))
    print(f"Epoch: [{epoch}]\tlr {optimizer.param_groups[0]['lr']:.5f}\tLoss {losses.avg:.4f}")


@torch.no_grad()
def validate(loader, model, criterion, device):
    losses, top1 = AverageMeter(), AverageMeter()
    model.eval()
    for images, target in loader:
        images, target = images.to(device), target.to(device)
        output = model(images)
        losses.update(criterion(output, target).item(), images.size(0))
        top1.update((output.argmax(1) == target).float().mean().item() * 100, images.size(0))
    print(f" * Acc@1 {top1.avg:.2f} Loss {losses.avg:.4f}")
    return top1.avg


def main():
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    order = torch.randperm(1200, generator=torch.Generator().manual_seed(args.seed)).tolist()
    train_dataset = Subset(toydata.Digits(train=True, transform=train_transform), order[:1000])
    val_dataset = Subset(toydata.Digits(train=True, transform=eval_transform), order[1000:])
    test_dataset = toydata.Digits(train=False, transform=eval_transform)
    train_loader = DataLoader(train_dataset, args.batch_size, shuffle=True)
    val_loader, test_loader = DataLoader(val_dataset, args.batch_size), DataLoader(test_dataset, args.batch_size)

    model = ResNet().to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=0.9, weight_decay=args.weight_decay)
    scheduler = StepLR(optimizer, step_size=5, gamma=0.1)
    scaler = torch.amp.GradScaler(device.type)

    best_acc1, folder = -1.0, tempfile.mkdtemp()
    checkpoint, model_best = (os.path.join(folder, name) for name in ("checkpoint.pth.tar", "model_best.pth.tar"))
    for epoch in range(args.epochs):
        train(train_loader, model, criterion, optimizer, scaler, epoch, device, args)
        acc1 = validate(val_loader, model, criterion, device)
        scheduler.step()
        torch.save({"epoch": epoch + 1, "state_dict": model.state_dict(), "acc1": acc1}, checkpoint)
        if acc1 > best_acc1:
            best_acc1 = acc1
            shutil.copyfile(checkpoint, model_best)
    best = torch.load(model_best, map_location=device)
    model.load_state_dict(best["state_dict"])
    print(f"best epoch {best['epoch']}, test:")
    validate(test_loader, model, criterion, device)


if __name__ == "__main__":
    main()
