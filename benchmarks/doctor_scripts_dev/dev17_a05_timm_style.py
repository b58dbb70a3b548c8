"""House numbers (colored digits on colored ground): mixup, label smoothing, EMA, cosine schedule with warmup."""

import argparse
import copy
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

parser = argparse.ArgumentParser(description="Training")
parser.add_argument("--epochs", type=int, default=14)
parser.add_argument("-b", "--batch-size", type=int, default=50)
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--momentum", type=float, default=0.9)
parser.add_argument("--weight-decay", type=float, default=5e-4)
parser.add_argument("--warmup-epochs", type=int, default=1)
parser.add_argument("--clip-grad", type=float, default=5.0)
parser.add_argument("--mixup", type=float, default=0.2)
parser.add_argument("--smoothing", type=float, default=0.05)
parser.add_argument("--model-ema-decay", type=float, default=0.98)
parser.add_argument("--seed", type=int, default=42)


def make_dataset(count, seed):
    digits, labels = draw_digits(count, seed=seed, noise=0.25)
    generator = torch.Generator().manual_seed(100 + seed)
    ink = digits.float() / 255
    ground = 0.5 * torch.rand(count, 3, 1, 1, generator=generator)
    color = ground + 0.5 * torch.rand(count, 3, 1, 1, generator=generator).clamp(min=0.3)
    images = ground + ink * (color - ground)
    return TensorDataset((images - 0.4) / 0.25, labels)


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.downsample(x))


class TinyResNet(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.layers = nn.Sequential(BasicBlock(16, 24, 2), BasicBlock(24, 48, 2))
        self.head = nn.Linear(48 * 4, num_classes)

    def forward(self, x):
        x = self.layers(self.stem(x))
        return self.head(F.adaptive_avg_pool2d(x, 2).flatten(1))


class Mixup:
    def __init__(self, alpha, smoothing, num_classes):
        self.alpha, self.smoothing, self.num_classes = alpha, smoothing, num_classes

    def __call__(self, x, y):
        lam = float(np.random.beta(self.alpha, self.alpha))
        perm = torch.randperm(len(x))
        target = F.one_hot(y, self.num_classes).float()
        target = target * (1 - self.smoothing) + self.smoothing / self.num_classes
        x = lam * x + (1 - lam) * x[perm]
        target = lam * target + (1 - lam) * target[perm]
        return x, target


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


class ModelEma:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.dtype.is_floating_point:
                ema_v.mul_(self.decay).add_(model_v, alpha=1 - self.decay)
            else:
                ema_v.copy_(model_v)


def param_groups(model, weight_decay):
    decay, no_decay = [], []
    for p in model.parameters():
        (decay if p.ndim > 1 else no_decay).append(p)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}]


def train_one_epoch(model, loader, optimizer, scheduler, loss_fn, mixup_fn, model_ema, args):
    model.train()
    total, seen = 0.0, 0
    for x, y in loader:
        x, target = mixup_fn(x, y)
        loss = loss_fn(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        optimizer.step()
        scheduler.step()
        model_ema.update(model)
        total += loss.item() * len(x)
        seen += len(x)
    return total / seen


@torch.no_grad()
def validate(model, loader):
    model.eval()
    correct, count = 0, 0
    for x, y in loader:
        correct += (model(x).argmax(1) == y).sum().item()
        count += len(y)
    return 100.0 * correct / count


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    train_loader = DataLoader(make_dataset(2400, seed=0), args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(make_dataset(500, seed=1), 250)

    model = TinyResNet()
    model_ema = ModelEma(model, args.model_ema_decay)
    optimizer = torch.optim.SGD(param_groups(model, args.weight_decay), args.lr, args.momentum, nesterov=True)
    warmup = args.warmup_epochs * len(train_loader)
    total = args.epochs * len(train_loader)

    def factor(step):
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / (total - warmup))))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    mixup_fn = Mixup(args.mixup, args.smoothing, num_classes=10)
    for epoch in range(args.epochs):
        train_loss = train_one_epoch(
            model, train_loader, optimizer, scheduler, SoftTargetCrossEntropy(), mixup_fn, model_ema, args)
        top1 = validate(model_ema.module, val_loader)
        print(f"Epoch {epoch}: train loss {train_loss:.4f}  ema acc@1 {top1:.2f}")


if __name__ == "__main__":
    main()
