"""Image classification from folders of JPEGs, as for ImageNet: meters, step decay, checkpoints."""

import argparse
import os
import shutil
import tempfile
import time

import numpy as np
import torch
import torch.nn as nn
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

# ILSVRC-like meta file: id (1-based, as the validation ground truth counts) and synset
META = {1: "n0702 red square", 2: "n0311 red disc", 3: "n0905 red cross", 4: "n0107 blue square", 5: "n0850 blue disc", 6: "n0420 blue cross"}

parser = argparse.ArgumentParser(description="folder training")
parser.add_argument("--epochs", default=10, type=int)
parser.add_argument("-b", "--batch-size", default=32, type=int)
parser.add_argument("--lr", default=0.05, type=float, help="initial learning rate")
parser.add_argument("--lr-step", default=2, type=int, help="epochs after which the rate is halved")
parser.add_argument("--momentum", default=0.9, type=float)
parser.add_argument("--wd", default=1e-4, type=float)
parser.add_argument("-p", "--print-freq", default=20, type=int)
parser.add_argument("--seed", default=3, type=int)


def write_images(root):
    for split, train in (("train", True), ("val", False)):
        shapes = Shapes(train=train, count=1500 if train else 260, size=24)
        truth = []
        for index, (image, target) in enumerate(shapes):
            folder = os.path.join(root, split, META[target + 1].split()[0] if train else "")
            os.makedirs(folder, exist_ok=True)
            pixels = (image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
            Image.fromarray(pixels).save(os.path.join(folder, f"{split}_{index:05d}.jpg"), quality=90)
            truth.append(str(target + 1))
        if not train:
            with open(os.path.join(root, "validation_ground_truth.txt"), "w") as file:
                file.write("\n".join(truth))


class ImageFolder(Dataset):
    def __init__(self, root, transform):
        self.root, self.transform = root, transform
        self.classes = sorted(os.listdir(root))
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        self.samples = self.find_samples()

    def find_samples(self):
        samples = []
        for folder, _, files in sorted(os.walk(self.root)):
            for file in sorted(files):
                samples.append((os.path.join(folder, file), self.class_to_idx[os.path.basename(folder)]))
        return samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        path, target = self.samples[index]
        return self.transform(Image.open(path).convert("RGB")), target


class ValidationFiles(Dataset):
    def __init__(self, root, class_to_idx, transform):
        self.transform = transform
        with open(os.path.join(root, "validation_ground_truth.txt")) as file:
            ids = [int(line) for line in file]
        self.targets = [class_to_idx[META[i].split()[0]] for i in ids]
        folder = os.path.join(root, "val")
        self.files = [os.path.join(folder, file) for file in sorted(os.listdir(folder))]

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        image = Image.open(self.files[index]).convert("RGB")
        return self.transform(image), self.targets[index]


def to_normalized(image):
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    return (x - 0.5) / 0.25


def train_transform(image):
    top, left = np.random.randint(0, 5, 2)
    image = image.crop((left, top, left + 20, top + 20))
    if np.random.rand() < 0.5:
        image = image.transpose(Image.FLIP_LEFT_RIGHT)
    return to_normalized(image)


def val_transform(image):
    return to_normalized(image.crop((2, 2, 22, 22)))


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
    return nn.Sequential(BasicBlock(3, 12, 2), BasicBlock(12, 24), BasicBlock(24, 32, 2), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(32, num_classes))


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


def accuracy(output, target, topk=(1,)):
    with torch.no_grad():
        _, pred = output.topk(max(topk), 1, True, True)
        correct = pred.t().eq(target.view(1, -1).expand_as(pred.t()))
        return [correct[:k].reshape(-1).float().sum(0) * (100.0 / target.size(0)) for k in topk]


def train(loader, model, criterion, optimizer, epoch, args):
    batch_time, losses, top1 = AverageMeter("Time", ":6.3f"), AverageMeter("Loss", ":.4e"), AverageMeter("Acc@1", ":6.2f")
    model.train()
    end = time.time()
    for i, (images, target) in enumerate(loader):
        output = model(images)
        loss = criterion(output, target)
        acc1, _ = accuracy(output, target, topk=(1, 3))
        losses.update(loss.item(), images.size(0))
        top1.update(acc1.item(), images.size(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        batch_time.update(time.time() - end)
        end = time.time()
        if i % args.print_freq == 0:
            print(f"Epoch: [{epoch}][{i}/{len(loader)}]", batch_time, losses, top1, sep="\t")


def validate(loader, model, criterion):
    losses, top1, top3 = AverageMeter("Loss", ":.4e"), AverageMeter("Acc@1", ":6.2f"), AverageMeter("Acc@3", ":6.2f")
    model.eval()
    with torch.no_grad():
        for images, target in loader:
            output = model(images)
            acc1, acc3 = accuracy(output, target, topk=(1, 3))
            losses.update(criterion(output, target).item(), images.size(0))
            top1.update(acc1.item(), len(target))
            top3.update(acc3.item(), images.size(0))
    print(f" * Acc@1 {top1.avg:.3f} Acc@3 {top3.avg:.3f} Loss {losses.avg:.4f}")
    return top1.avg


def save_checkpoint(state, is_best, folder):
    filename = os.path.join(folder, "checkpoint.pth.tar")
    torch.save(state, filename)
    if is_best:
        shutil.copyfile(filename, os.path.join(folder, "model_best.pth.tar"))


def adjust_learning_rate(optimizer, epoch, args):
    """The initial rate, halved every few epochs."""
    for param_group in optimizer.param_groups:
        param_group["lr"] = args.lr * (0.5 ** (epoch // args.lr_step))


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    with tempfile.TemporaryDirectory() as root:
        write_images(root)
        train_dataset = ImageFolder(os.path.join(root, "train"), train_transform)
        val_dataset = ValidationFiles(root, train_dataset.class_to_idx, val_transform)
        train_loader = DataLoader(train_dataset, batch_size=args.batch_size, shuffle=True)
        val_loader = DataLoader(val_dataset, batch_size=128, shuffle=False)
        model = resnet(len(train_dataset.classes))
        criterion = nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=args.momentum, weight_decay=args.wd)
        best_acc1 = -1.0
        for epoch in range(args.epochs):
            adjust_learning_rate(optimizer, epoch, args)
            train(train_loader, model, criterion, optimizer, epoch, args)
            acc1 = validate(val_loader, model, criterion)
            is_best = acc1 > best_acc1
            best_acc1 = max(acc1, best_acc1)
            save_checkpoint({"epoch": epoch + 1, "state_dict": model.state_dict(), "best_acc1": best_acc1}, is_best, root)
        best = torch.load(os.path.join(root, "model_best.pth.tar"))
        model.load_state_dict(best["state_dict"])
        print("best epoch", best["epoch"])
        validate(val_loader, model, criterion)


if __name__ == "__main__":
    main()
