"""ImageNet-style training of a small residual network on a folder of JPEG files."""

import argparse
import os
import random
import shutil
import tempfile
import time

import numpy as np
import torch
import torch.nn as nn
from PIL import Image, ImageEnhance
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes

parser = argparse.ArgumentParser(description="Training on folders of images")
parser.add_argument("data", nargs="?", default=None, help="folder with train/ and val/")
parser.add_argument("--epochs", default=8, type=int)
parser.add_argument("-b", "--batch-size", default=32, type=int)
parser.add_argument("--lr", default=0.05, type=float)
parser.add_argument("--momentum", default=0.9, type=float)
parser.add_argument("--wd", "--weight-decay", default=1e-4, type=float, dest="weight_decay")
parser.add_argument("-p", "--print-freq", default=10, type=int)
parser.add_argument("--seed", default=0, type=int)


def write_folder(root):
    for split in ("train", "val"):
        shapes = Shapes(train=split == "train", count={"train": 1500, "val": 300}[split], size=32)
        for index, (image, target) in enumerate(shapes):
            folder = os.path.join(root, split, NAMES[target].replace(" ", "_"))
            os.makedirs(folder, exist_ok=True)
            array = (image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
            Image.fromarray(array).save(os.path.join(folder, f"{index:05d}.jpg"), quality=92)
    return root


def pil_loader(path):
    with open(path, "rb") as f:
        return Image.open(f).convert("RGB")


class ImageFolder(Dataset):
    def __init__(self, root, transforms=(), loader=pil_loader):
        self.classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        self.samples = []
        for name in self.classes:
            for file in sorted(os.listdir(os.path.join(root, name))):
                self.samples.append((os.path.join(root, name, file), self.class_to_idx[name]))
        self.transforms, self.loader = transforms, loader

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        path, target = self.samples[index]
        image = self.loader(path)
        for transform in self.transforms:
            image = transform(image)
        return image, target


class ColorJitter:
    def __init__(self, brightness=0.0, contrast=0.0, hue=0.0):
        self.brightness, self.contrast, self.hue = brightness, contrast, hue

    def __call__(self, image):
        image = ImageEnhance.Brightness(image).enhance(1 + random.uniform(-self.brightness, self.brightness))
        image = ImageEnhance.Contrast(image).enhance(1 + random.uniform(-self.contrast, self.contrast))
        if self.hue > 0:
            h, s, v = image.convert("HSV").split()
            turn = int(256 * random.uniform(-self.hue, self.hue))
            image = Image.merge("HSV", (h.point(lambda x: (x + turn) % 256), s, v)).convert("RGB")
        return image


def random_resized_crop(size, scale):
    def apply(image):
        side = int(round(min(image.size) * random.uniform(*scale) ** 0.5))
        left, top = random.randint(0, image.width - side), random.randint(0, image.height - side)
        return image.resize((size, size), Image.BILINEAR, box=(left, top, left + side, top + side))

    return apply


def resize(size):
    return lambda image: image.resize((size, size), Image.BILINEAR)


def random_flip(image):
    return image.transpose(Image.FLIP_LEFT_RIGHT) if random.random() < 0.5 else image


def to_tensor(image):
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (tensor - mean.view(3, 1, 1)) / std.view(3, 1, 1)


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + self.downsample(x))


def resnet_tiny(num_classes):
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    blocks = [BasicBlock(16, 24, 2), BasicBlock(24, 48, 2)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, num_classes))


class AverageMeter:
    def __init__(self, name, fmt=":f"):
        self.name, self.fmt = name, fmt
        self.val = self.sum = self.count = self.avg = 0

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
        correct = pred.t().eq(target.view(1, -1).expand(max(topk), -1))
        return [correct[:k].reshape(-1).float().sum().item() * 100.0 / target.size(0) for k in topk]


def run_epoch(loader, model, criterion, optimizer, epoch, args):
    training = optimizer is not None
    batch_time, losses = AverageMeter("Time", ":6.3f"), AverageMeter("Loss", ":.4f")
    top1, top2 = AverageMeter("Acc@1", ":6.2f"), AverageMeter("Acc@2", ":6.2f")
    prefix = f"Epoch: [{epoch}]" if training else "Test: "
    progress = ProgressMeter(len(loader), [batch_time, losses, top1, top2], prefix)
    model.train(training)
    end = time.time()
    with torch.set_grad_enabled(training):
        for i, (images, target) in enumerate(loader):
            output = model(images)
            loss = criterion(output, target)
            acc1, acc2 = accuracy(output, target, topk=(1, 2))
            losses.update(loss.item(), images.size(0))
            top1.update(acc1, images.size(0))
            top2.update(acc2, images.size(0))
            if training:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            batch_time.update(time.time() - end)
            end = time.time()
            if i % args.print_freq == 0:
                progress.display(i + 1)
    if not training:
        print(f" *   Acc@1 {top1.avg:.3f} Acc@2 {top2.avg:.3f}")
    return top1.avg


def save_checkpoint(state, is_best, folder):
    filename = os.path.join(folder, "checkpoint.pth.tar")
    torch.save(state, filename)
    if is_best:
        shutil.copyfile(filename, os.path.join(folder, "model_best.pth.tar"))


def main():
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    best_acc1, work = 0.0, tempfile.mkdtemp()
    root = args.data or write_folder(os.path.join(work, "shapes"))

    augment = [random_resized_crop(24, (0.9, 1.0)), random_flip, ColorJitter(brightness=0.2, contrast=0.2)]
    train_dataset = ImageFolder(os.path.join(root, "train"), augment + [to_tensor])
    val_dataset = ImageFolder(os.path.join(root, "val"), [resize(24), to_tensor])
    train_loader = DataLoader(train_dataset, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_dataset, batch_size=args.batch_size, shuffle=False)

    model = resnet_tiny(len(train_dataset.classes))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=args.momentum, weight_decay=args.weight_decay)
    scheduler = StepLR(optimizer, step_size=6, gamma=0.1)

    for epoch in range(args.epochs):
        run_epoch(train_loader, model, criterion, optimizer, epoch, args)
        acc1 = run_epoch(val_loader, model, criterion, None, epoch, args)
        scheduler.step()
        is_best = acc1 > best_acc1
        best_acc1 = max(acc1, best_acc1)
        save_checkpoint({"epoch": epoch + 1, "state_dict": model.state_dict(), "best_acc1": best_acc1}, is_best, work)
    print(f"best Acc@1 {best_acc1:.2f}")


if __name__ == "__main__":
    main()
