#!/usr/bin/env python3
""" Shapes training: mixup, label smoothing, warmup + cosine decay, average of the weights (EMA) """
import argparse
import copy
import math
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import NAMES, Shapes

NUM_CLASSES = len(NAMES)

parser = argparse.ArgumentParser(description="Shapes Training")
parser.add_argument("--epochs", default=18, type=int)
parser.add_argument("-b", "--batch-size", default=50, type=int)
parser.add_argument("--lr", default=0.05, type=float)
parser.add_argument("--weight-decay", default=5e-4, type=float)
parser.add_argument("--warmup-epochs", default=3, type=int)
parser.add_argument("--clip-grad", default=5.0, type=float)
parser.add_argument("--mixup", default=0.2, type=float, help="mixup alpha")
parser.add_argument("--smoothing", default=0.1, type=float)
parser.add_argument("--model-ema-decay", default=0.97, type=float)
parser.add_argument("--seed", default=42, type=int)


class BasicBlock(nn.Module):
    def __init__(self, in_chs, out_chs):
        super().__init__()
        self.conv1 = nn.Conv2d(in_chs, out_chs, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_chs)
        self.conv2 = nn.Conv2d(out_chs, out_chs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_chs)

    def forward(self, x):
        shortcut = F.relu(self.bn1(self.conv1(x)))
        return F.relu(shortcut + self.bn2(self.conv2(shortcut)))


class ResNetTiny(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.layer1 = BasicBlock(16, 32)
        self.layer2 = BasicBlock(32, 48)
        self.fc = nn.Linear(48, num_classes)

    def forward(self, x):
        x = self.layer2(self.layer1(self.stem(x)))
        return self.fc(x.mean(dim=(2, 3)))


class ModelEma:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        self.decay = decay
        self.module.requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.is_floating_point():
                ema_v.mul_(self.decay).add_(model_v, alpha=1.0 - self.decay)
            else:
                ema_v.copy_(model_v)


def normalize(image):
    return (image - 0.5) / 0.2


def random_flip(image):
    if torch.rand(()) < 0.5:
        image = image.flip(2)
    if torch.rand(()) < 0.5:
        image = image.flip(1)
    return normalize(image)


def mixup_batch(images, targets, args):
    lam = float(np.random.beta(args.mixup, args.mixup))
    perm = torch.randperm(images.size(0))
    soft = F.one_hot(targets, NUM_CLASSES).float() * (1 - args.smoothing) + args.smoothing / NUM_CLASSES
    images = lam * images + (1.0 - lam) * images[perm]
    soft = lam * soft + (1.0 - lam) * soft[perm]
    return images, soft


def train_one_epoch(model, loader, optimizer, lr_scheduler, model_ema, args):
    model.train()
    total, seen = 0.0, 0
    for images, targets in loader:
        images, soft = mixup_batch(images, targets, args)
        loss = F.cross_entropy(model(images), soft)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        optimizer.step()
        lr_scheduler.step()
        model_ema.update(model)
        total += loss.item() * len(images)
        seen += len(images)
    return total / seen


@torch.no_grad()
def validate(model, loader):
    model.eval()
    loss, correct, seen = 0.0, 0, 0
    for images, targets in loader:
        output = model(images)
        loss += F.cross_entropy(output, targets, reduction="sum").item()
        correct += (output.argmax(dim=1) == targets).sum().item()
        seen += len(targets)
    return {"loss": loss / seen, "top1": 100.0 * correct / seen}


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)

    dataset_train = Shapes(train=True, transform=random_flip)
    dataset_eval = Shapes(train=False, transform=normalize)
    loader_train = DataLoader(dataset_train, batch_size=args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(dataset_eval, batch_size=120)

    model = ResNetTiny(NUM_CLASSES)
    model_ema = ModelEma(model, args.model_ema_decay)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, nesterov=True,
                                weight_decay=args.weight_decay)

    warmup_steps = args.warmup_epochs * len(loader_train)
    total_steps = args.epochs * len(loader_train)

    def lr_factor(step):
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps)))

    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_factor)

    best_top1 = 0.0
    with tempfile.TemporaryDirectory() as output_dir:
        for epoch in range(args.epochs):
            train_loss = train_one_epoch(model, loader_train, optimizer, lr_scheduler, model_ema, args)
            metrics = validate(model_ema.module, loader_eval)
            print(f"Train: {epoch} loss {train_loss:.3f}  EMA: loss {metrics['loss']:.3f} top1 {metrics['top1']:.1f}")
            if metrics["top1"] > best_top1:
                best_top1 = metrics["top1"]
                torch.save(model_ema.module.state_dict(), f"{output_dir}/model_best.pth")
    print(f"*** Best metric: {best_top1:.1f}")


if __name__ == "__main__":
    main()
