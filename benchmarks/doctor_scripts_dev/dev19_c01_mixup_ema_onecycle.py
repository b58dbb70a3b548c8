"""Small ResNet on colored shapes, with the usual bag of tricks: mixup, label smoothing, EMA of the weights, OneCycle.

python c01_mixup_ema_onecycle.py --epochs 14 --mixup-alpha 0.2
"""

import argparse
import copy
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Shapes

parser = argparse.ArgumentParser(description="shapes with a bag of tricks")
parser.add_argument("--epochs", type=int, default=14)
parser.add_argument("--batch-size", "-b", type=int, default=64)
parser.add_argument("--lr", type=float, default=4e-3, help="peak of the one-cycle schedule")
parser.add_argument("--wd", type=float, default=0.02)
parser.add_argument("--mixup-alpha", type=float, default=0.2)
parser.add_argument("--smoothing", type=float, default=0.1)
parser.add_argument("--ema-decay", type=float, default=0.98)
parser.add_argument("--size", type=int, default=20)
parser.add_argument("--seed", type=int, default=42)


class ModelEma(nn.Module):
    """As in timm: a copy of the model whose weights follow the trained ones slowly."""

    def __init__(self, model, decay):
        super().__init__()
        self.module = copy.deepcopy(model)
        self.module.eval()
        self.decay = decay
        for p in self.module.parameters():
            p.requires_grad_(False)

    @torch.no_grad()
    def update(self, model, step):
        decay = min(self.decay, (1 + step) / (10 + step))  # short memory at first
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.dtype.is_floating_point:
                ema_v.mul_(decay).add_(model_v, alpha=1 - decay)
            else:
                ema_v.copy_(model_v)


class BasicBlock(nn.Module):
    def __init__(self, cin, cout, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.shortcut = nn.Sequential()
        if stride != 1 or cin != cout:
            self.shortcut = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out)) + self.shortcut(x)
        return F.relu(out)


class ResNet(nn.Module):
    def __init__(self, num_classes=6, width=16):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.layer1 = BasicBlock(width, width)
        self.layer2 = BasicBlock(width, 2 * width, 2)
        self.layer3 = BasicBlock(2 * width, 4 * width, 2)
        self.fc = nn.Linear(4 * width, num_classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(x.mean((2, 3)))


class Augment:
    def __init__(self, mean, std, pad=2):
        self.mean, self.std, self.pad = mean.view(3, 1, 1), std.view(3, 1, 1), pad

    def __call__(self, image):
        image = (image - self.mean) / self.std
        size = image.shape[-1]
        image = F.pad(image, [self.pad] * 4, mode="replicate")
        top, left = torch.randint(0, 2 * self.pad + 1, (2,)).tolist()
        image = image[:, top : top + size, left : left + size]
        return image.flip(-1) if torch.rand(()) < 0.5 else image


def mixup_data(x, y, alpha):
    lam = np.random.beta(alpha, alpha) if alpha > 0 else 1.0
    index = torch.randperm(x.size(0))
    return lam * x + (1 - lam) * x[index], y, y[index], lam


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    correct = total = 0
    for x, y in loader:
        correct += (model(x).argmax(1) == y).sum().item()
        total += y.numel()
    return 100.0 * correct / total


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    train_set = Shapes(train=True, count=1600, size=args.size)
    val_set = Shapes(train=False, count=400, size=args.size)
    pixels = torch.stack(train_set.images)
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    train_set.transform = Augment(mean, std)
    val_set.transform = lambda image: (image - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    train_loader = DataLoader(train_set, args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, 200)

    model = ResNet()
    ema = ModelEma(model, args.ema_decay)
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": args.wd}, {"params": no_decay, "weight_decay": 0.0}], lr=args.lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, epochs=args.epochs, steps_per_epoch=len(train_loader), pct_start=0.25
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=args.smoothing)
    step, started = 0, time.time()
    for epoch in range(args.epochs):
        model.train()
        running = 0.0
        for x, y in train_loader:
            x, y_a, y_b, lam = mixup_data(x, y, args.mixup_alpha)
            output = model(x)
            loss = lam * criterion(output, y_a) + (1 - lam) * criterion(output, y_b)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            ema.update(model, step)
            step += 1
            running += loss.item() * y.numel()
        seen = len(train_loader) * args.batch_size
        print(
            f"epoch {epoch + 1:2d}  loss {running / seen:.3f}  val {accuracy(model, val_loader):.1f}%  "
            f"val ema {accuracy(ema.module, val_loader):.1f}%  lr {scheduler.get_last_lr()[0]:.1e}  {time.time() - started:.0f}s"
        )


if __name__ == "__main__":
    main()
