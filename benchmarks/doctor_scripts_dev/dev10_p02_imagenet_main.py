"""Train a small residual network on a folder of JPEGs: main.py in the manner of the ImageNet example."""

import argparse
import os
import shutil
import tempfile
import time

import numpy as np
import torch
import torch.nn as nn
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from toydata import Digits

parser = argparse.ArgumentParser(description="folder training")
parser.add_argument("data", metavar="DIR", nargs="?", default="")
parser.add_argument("-j", "--workers", default=0, type=int)
parser.add_argument("--epochs", default=8, type=int)
parser.add_argument("-b", "--batch-size", default=32, type=int)
parser.add_argument("--lr", "--learning-rate", default=0.05, type=float, dest="lr")
parser.add_argument("--momentum", default=0.9, type=float)
parser.add_argument("--wd", "--weight-decay", default=1e-4, type=float, dest="weight_decay")
parser.add_argument("-p", "--print-freq", default=10, type=int)
parser.add_argument("--seed", default=0, type=int)

best_acc1 = 0


def make_folder(root):
    """Writes train/<class>/*.jpg and val/<class>/*.jpg."""
    for split in ("train", "val"):
        digits = Digits(train=split == "train")
        for i in range(len(digits)):
            folder = os.path.join(root, split, f"digit_{digits.targets[i]}")
            os.makedirs(folder, exist_ok=True)
            Image.fromarray(digits.data[i, 0].numpy()).convert("RGB").save(os.path.join(folder, f"{i:05d}.jpg"), quality=92)
    os.makedirs(os.path.join(root, "train", ".ipynb_checkpoints"))


class ImageFolder(Dataset):
    def __init__(self, root, transform):
        self.classes = sorted(d for d in os.listdir(root) if not d.startswith("."))
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        self.samples = []
        for name in self.classes:
            for file in sorted(os.listdir(os.path.join(root, name))):
                self.samples.append((os.path.join(root, name, file), self.class_to_idx[name]))
        self.transform = transform

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        path, target = self.samples[index]
        with open(path, "rb") as file:
            image = Image.open(file).convert("RGB")
        return self.transform(image), target


def to_normalized(image):
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    mean, std = torch.tensor([0.2, 0.2, 0.2]), torch.tensor([0.32, 0.32, 0.32])
    return (tensor - mean[:, None, None]) / std[:, None, None]


def train_transform(image):
    left, top = torch.randint(0, 3, (2,)).tolist()
    image = ImageOps.expand(image, 1, fill=(0, 0, 0)).crop((left, top, left + 16, top + 16))
    return to_normalized(image)


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + identity)


class ResNet(nn.Module):
    def __init__(self, widths=(16, 32, 64), num_classes=10):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        )
        blocks, inplanes = [], 16
        for i, planes in enumerate(widths):
            blocks.append(BasicBlock(inplanes, planes, 1 if i == 0 else 2))
            inplanes = planes
        self.layers = nn.Sequential(*blocks)
        self.fc = nn.Linear(inplanes, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        return self.fc(self.layers(self.stem(x)).amax((2, 3)))


class AverageMeter:
    def __init__(self, name, fmt=":f"):
        self.name, self.fmt = name, fmt
        self.val = self.avg = self.sum = self.count = 0

    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count

    def __str__(self):
        return ("{name} {val" + self.fmt + "} ({avg" + self.fmt + "})").format(**self.__dict__)


class ProgressMeter:
    def __init__(self, num_batches, meters, prefix=""):
        self.num_batches, self.meters, self.prefix = num_batches, meters, prefix

    def display(self, batch):
        print("\t".join([f"{self.prefix}[{batch}/{self.num_batches}]"] + [str(meter) for meter in self.meters]))


def accuracy(output, target, topk=(1,)):
    with torch.no_grad():
        _, pred = output.topk(max(topk), 1, True, True)
        correct = pred.t().eq(target.view(1, -1).expand_as(pred.t()))
        return [correct[:k].reshape(-1).float().sum() * (100.0 / target.size(0)) for k in topk]


def train(loader, model, criterion, optimizer, epoch, args):
    batch_time, losses, top1 = AverageMeter("Time", ":.3f"), AverageMeter("Loss", ":.3f"), AverageMeter("Acc@1", ":.2f")
    progress = ProgressMeter(len(loader), [batch_time, losses, top1], prefix=f"Epoch: [{epoch}]")
    model.train()
    end = time.time()
    for i, (images, target) in enumerate(loader):
        output = model(images)
        loss = criterion(output, target)
        (acc1,) = accuracy(output, target)
        losses.update(loss.item(), images.size(0))
        top1.update(acc1.item(), images.size(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        batch_time.update(time.time() - end)
        end = time.time()
        if i % args.print_freq == 0:
            progress.display(i)


def validate(loader, model, criterion):
    losses, top1, top2 = AverageMeter("Loss", ":.3f"), AverageMeter("Acc@1", ":.2f"), AverageMeter("Acc@2", ":.2f")
    model.eval()
    with torch.no_grad():
        for images, target in loader:
            output = model(images)
            acc1, acc2 = accuracy(output, target, topk=(1, 2))
            losses.update(criterion(output, target).item(), images.size(0))
            top1.update(acc1.item(), images.size(0))
            top2.update(acc2.item(), images.size(0))
    print(f" * Acc@1 {top1.avg:.3f} Acc@2 {top2.avg:.3f} Loss {losses.avg:.4f}")
    return top1.avg


def save_checkpoint(state, is_best, folder):
    filename = os.path.join(folder, "checkpoint.pth.tar")
    torch.save(state, filename)
    if is_best:
        shutil.copyfile(filename, os.path.join(folder, "model_best.pth.tar"))


def adjust_learning_rate(optimizer, epoch, args):
    """The rate decays by 10 after each half of the epochs."""
    lr = args.lr * (0.1 ** (epoch // (args.epochs // 2)))
    for param_group in optimizer.param_groups:
        param_group["lr"] = lr


def main():
    global best_acc1
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    work = tempfile.mkdtemp()
    if not args.data:
        args.data = os.path.join(work, "digits")
        make_folder(args.data)
    train_dataset = ImageFolder(os.path.join(args.data, "train"), train_transform)
    val_dataset = ImageFolder(os.path.join(args.data, "val"), to_normalized)
    train_loader = DataLoader(train_dataset, batch_size=args.batch_size, shuffle=True, num_workers=args.workers)
    val_loader = DataLoader(val_dataset, batch_size=64, shuffle=False, num_workers=args.workers)

    model = ResNet(num_classes=len(train_dataset.classes))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=args.momentum, weight_decay=args.weight_decay)
    for epoch in range(args.epochs):
        adjust_learning_rate(optimizer, epoch, args)
        train(train_loader, model, criterion, optimizer, epoch, args)
        acc1 = validate(val_loader, model, criterion)
        is_best = acc1 > best_acc1
        best_acc1 = max(acc1, best_acc1)
        state = {"epoch": epoch + 1, "state_dict": model.state_dict(), "best_acc1": best_acc1, "optimizer": optimizer.state_dict()}
        save_checkpoint(state, is_best, work)
    best = torch.load(os.path.join(work, "model_best.pth.tar"))
    model.load_state_dict(best["state_dict"])
    print("best checkpoint: epoch", best["epoch"])
    validate(val_loader, model, criterion)


if __name__ == "__main__":
    main()
