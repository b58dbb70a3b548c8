"""Train a small digit classifier with mixed images and an averaged copy of the weights."""

import argparse
import copy
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

import toydata

parser = argparse.ArgumentParser(description="digits")
parser.add_argument("--epochs", type=int, default=14)
parser.add_argument("-b", "--batch-size", type=int, default=60)
parser.add_argument("--lr", type=float, default=4e-3)
parser.add_argument("--weight-decay", type=float, default=0.02)
parser.add_argument("--mixup", type=float, default=0.3)
parser.add_argument("--smoothing", type=float, default=0.1)
parser.add_argument("--ema-decay", type=float, default=0.97)
parser.add_argument("--seed", type=int, default=42)


class ModelEma(nn.Module):
    def __init__(self, model, decay):
        super().__init__()
        self.module = copy.deepcopy(model).eval()
        self.module.requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mine, theirs in zip(self.module.state_dict().values(), model.state_dict().values()):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - decay)
            else:
                mine.copy_(theirs)


def conv_bn(c_in, c_out):
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True))


def create_model(num_classes=10):
    return nn.Sequential(
        conv_bn(1, 24),
        nn.MaxPool2d(2),
        conv_bn(24, 48),
        nn.MaxPool2d(2),
        conv_bn(48, 48),
        nn.Flatten(),
        nn.Linear(48 * 4 * 4, num_classes),
    )


def one_hot(target, num_classes, smoothing):
    off_value = smoothing / num_classes
    on_value = 1.0 - smoothing + off_value
    return torch.full((len(target), num_classes), off_value).scatter_(1, target[:, None], on_value)


def mix_batch(images, target, alpha, smoothing, num_classes=10):
    lam = float(np.random.beta(alpha, alpha))
    partner = torch.randperm(len(images))
    soft = one_hot(target, num_classes, smoothing)
    mixed = lam * images + (1 - lam) * images[partner]
    return mixed, lam * soft + (1 - lam) * soft[partner]


def soft_target_loss(logits, target):
    return torch.sum(-target * F.log_softmax(logits, dim=-1), dim=-1).mean()


def train_one_epoch(epoch, model, ema, loader, optimizer, scheduler, args):
    model.train()
    total, seen = 0.0, 0
    for images, target in loader:
        images, soft = mix_batch(images, target, args.mixup, args.smoothing)
        loss = soft_target_loss(model(images), soft)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        scheduler.step()
        ema.update(model)
        total += loss.detach() * len(images)
        seen += len(images)
    print(f"Train: {epoch:2d}  loss {float(total) / seen:.4f}  lr {scheduler.get_last_lr()[0]:.2e}")


@torch.no_grad()
def validate(model, loader):
    model.eval()
    correct, loss, seen = 0, 0.0, 0
    for images, target in loader:
        logits = model(images)
        loss += F.cross_entropy(logits, target, reduction="sum").item()
        correct += (logits.argmax(1) == target).sum().item()
        seen += len(target)
    return 100.0 * correct / seen, loss / seen


def main():
    args = parser.parse_args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)

    train_images, train_target = toydata.draw_digits(1200, seed=0)
    test_images, test_target = toydata.draw_digits(300, seed=1)
    train_images, test_images = train_images / 255.0, test_images / 255.0
    mean, std = train_images.mean(), train_images.std()
    train_set = TensorDataset((train_images - mean) / std, train_target)
    test_set = TensorDataset((test_images - mean) / std, test_target)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    test_loader = DataLoader(test_set, batch_size=100)

    model = create_model()
    ema = ModelEma(model, args.ema_decay)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, epochs=args.epochs, steps_per_epoch=len(train_loader), pct_start=0.25
    )

    for epoch in range(args.epochs):
        train_one_epoch(epoch, model, ema, train_loader, optimizer, scheduler, args)
    for name, network in (("last", model), ("averaged", ema.module)):
        top1, loss = validate(network, test_loader)
        print(f"Test ({name}): top1 {top1:.2f}  loss {loss:.4f}")


if __name__ == "__main__":
    main()
