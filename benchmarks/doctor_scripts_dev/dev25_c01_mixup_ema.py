"""Image classification in the manner of timm: mixup with smoothed soft targets, an EMA of the weights, warmup and cosine."""

import argparse
import copy
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

parser = argparse.ArgumentParser(description="Digits training")
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--lr", type=float, default=2e-3)
parser.add_argument("--weight-decay", type=float, default=0.02)
parser.add_argument("--warmup-epochs", type=int, default=2)
parser.add_argument("--mixup-alpha", type=float, default=0.2)
parser.add_argument("--smoothing", type=float, default=0.1)
parser.add_argument("--model-ema-decay", type=float, default=0.99)
parser.add_argument("--seed", type=int, default=42)


class ConvBnAct(nn.Sequential):
    def __init__(self, inputs, outputs):
        super().__init__(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU(inplace=True))


class DigitNet(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.stem = ConvBnAct(1, 16)
        self.stage1 = nn.Sequential(nn.MaxPool2d(2), ConvBnAct(16, 32))
        self.stage2 = nn.Sequential(nn.MaxPool2d(2), ConvBnAct(32, 64))
        self.head = nn.Linear(64 * 4 * 4, num_classes)

    def forward(self, x):
        return self.head(self.stage2(self.stage1(self.stem(x))).flatten(1))


class ModelEma(nn.Module):
    def __init__(self, model, decay):
        super().__init__()
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.dtype.is_floating_point:
                ema_v.lerp_(model_v, 1.0 - decay)
            else:
                ema_v.copy_(model_v)


def one_hot(target, num_classes, smoothing):
    off_value = smoothing / num_classes
    return F.one_hot(target, num_classes).float() * (1.0 - smoothing) + off_value


def mixup(images, target, alpha, num_classes, smoothing):
    """The batch is mixed with itself in reverse order, as timm does it."""
    lam = float(np.random.beta(alpha, alpha))
    soft = one_hot(target, num_classes, smoothing)
    return images * lam + images.flip(0) * (1.0 - lam), soft * lam + soft.flip(0) * (1.0 - lam)


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


@torch.no_grad()
def validate(model, loader):
    model.eval()
    correct, loss_sum, count = 0, 0.0, 0
    for images, target in loader:
        output = model(images)
        loss_sum += F.cross_entropy(output, target, reduction="sum").item()
        correct += (output.argmax(1) == target).sum().item()
        count += len(target)
    return loss_sum / count, 100.0 * correct / count


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    train_images, train_labels = draw_digits(2400, seed=0, noise=0.2)
    val_images, val_labels = draw_digits(500, seed=1, noise=0.2)
    train_images, val_images = train_images.float() / 255, val_images.float() / 255
    mean, std = train_images.mean(), train_images.std()
    train_set = TensorDataset((train_images - mean) / std, train_labels)
    val_set = TensorDataset((val_images - mean) / std, val_labels)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=250)

    model = DigitNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    warmup, total = args.warmup_epochs * len(train_loader), args.epochs * len(train_loader)

    def factor(step):
        if step < warmup:
            return (step + 1) / warmup
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    model_ema = ModelEma(model, args.model_ema_decay)
    criterion = SoftTargetCrossEntropy()

    for epoch in range(args.epochs):
        model.train()
        running = 0.0
        for images, target in train_loader:
            images, soft_target = mixup(images, target, args.mixup_alpha, 10, args.smoothing)
            loss = criterion(model(images), soft_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            model_ema.update(model)
            running += loss.item()
        _, top1 = validate(model, val_loader)
        ema_loss, ema_top1 = validate(model_ema.module, val_loader)
        print(f"epoch {epoch:2d}  train {running / len(train_loader):.3f}  val top1 {top1:.1f}  ema loss {ema_loss:.3f}  ema top1 {ema_top1:.1f}")


if __name__ == "__main__":
    main()
