"""Training on a folder of JPEG files per class, with meters, checkpoints and resume."""
import argparse
import os
import random
import shutil
import tempfile
import time

import numpy as np
import torch
import torch.nn as nn
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes

parser = argparse.ArgumentParser(description="Image folder training")
parser.add_argument("--epochs", default=10, type=int)
parser.add_argument("-b", "--batch-size", default=64, type=int)
parser.add_argument("--lr", default=0.03, type=float)
parser.add_argument("--momentum", default=0.9, type=float)
parser.add_argument("--wd", default=1e-4, type=float)
parser.add_argument("-p", "--print-freq", default=7, type=int)
parser.add_argument("--resume", default="", type=str)
parser.add_argument("--seed", default=3, type=int)


def write_folder(root, split, shapes):
    for name in NAMES:
        os.makedirs(os.path.join(root, split, name.replace(" ", "_")), exist_ok=True)
    for i, (image, target) in enumerate(shapes):
        array = (image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        Image.fromarray(array).save(os.path.join(root, split, NAMES[target].replace(" ", "_"), f"{i:05d}.jpg"), quality=92)


class ImageFolder(Dataset):
    def __init__(self, root, transform):
        self.classes = sorted(os.listdir(root))
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        self.samples = [
            (os.path.join(root, name, file), self.class_to_idx[name])
            for name in self.classes
            for file in sorted(os.listdir(os.path.join(root, name)))
        ]
        self.transform = transform

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        path, target = self.samples[index]
        with Image.open(path) as file:
            image = file.convert("RGB")
        return self.transform(image), target


class Transform:
    def __init__(self, train):
        self.train = train
        self.mean, self.std = torch.tensor([0.48, 0.44, 0.5])[:, None, None], torch.tensor([0.19, 0.17, 0.2])[:, None, None]

    def __call__(self, image):
        if self.train and random.random() < 0.5:
            image = image.transpose(Image.FLIP_LEFT_RIGHT)
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        return (tensor - self.mean) / self.std


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
        return self.relu(self.bn2(self.conv2(out)) + identity)


def resnet(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 24, 3, 1, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU(inplace=True),
        BasicBlock(24, 24), BasicBlock(24, 48, 2), BasicBlock(48, 96, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, num_classes),
    )


class AverageMeter:
    def __init__(self, name):
        self.name, self.sum, self.count, self.val = name, 0.0, 0, 0.0

    def update(self, val, n=1):
        self.val, self.sum, self.count = val, self.sum + val * n, self.count + n

    def __str__(self):
        return f"{self.name} {self.val:.3f} ({self.sum / max(self.count, 1):.3f})"


def run_epoch(loader, model, criterion, optimizer=None, epoch=0, print_freq=10):
    losses, top1, timer = AverageMeter("Loss"), AverageMeter("Acc@1"), time.time()
    model.train(optimizer is not None)
    with torch.set_grad_enabled(optimizer is not None):
        for i, (images, target) in enumerate(loader):
            output = model(images)
            loss = criterion(output, target)
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            losses.update(loss.item(), images.size(0))
            top1.update((output.argmax(1) == target).float().mean().item() * 100, images.size(0))
            if optimizer is not None and i % print_freq == 0:
                print(f"Epoch [{epoch}][{i}/{len(loader)}] {losses} {top1} time {time.time() - timer:.1f}")
    return top1.sum / top1.count


def main():
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    work = tempfile.mkdtemp()
    write_folder(work, "train", Shapes(train=True, size=24))
    write_folder(work, "val", Shapes(train=False, size=24))
    train_set = ImageFolder(os.path.join(work, "train"), Transform(train=True))
    val_set = ImageFolder(os.path.join(work, "val"), Transform(train=False))
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=args.batch_size)
    model, criterion = resnet(len(train_set.classes)), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=args.momentum, weight_decay=args.wd, nesterov=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)
    best_acc1, start = 0.0, 0
    if args.resume and os.path.isfile(args.resume):
        state = torch.load(args.resume)
        start, best_acc1 = state["epoch"], state["best_acc1"]
        model.load_state_dict(state["state_dict"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
    for epoch in range(start, args.epochs):
        run_epoch(train_loader, model, criterion, optimizer, epoch, args.print_freq)
        acc1 = run_epoch(val_loader, model, criterion)
        scheduler.step()
        is_best, best_acc1 = acc1 > best_acc1, max(acc1, best_acc1)
        file = os.path.join(work, "checkpoint.pth.tar")
        torch.save({"epoch": epoch + 1, "state_dict": model.state_dict(), "best_acc1": best_acc1,
                    "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, file)
        if is_best:
            shutil.copyfile(file, os.path.join(work, "model_best.pth.tar"))
        print(f" * Acc@1 {acc1:.2f} best {best_acc1:.2f}")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
