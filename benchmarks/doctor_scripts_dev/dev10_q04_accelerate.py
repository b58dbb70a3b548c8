"""Digits with Accelerate: gradient accumulation, cosine schedule, clipping and an average of the weights."""

import argparse
import copy
import math
import os
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader

from toydata import Digits


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--num_epochs", type=int, default=10)
    parser.add_argument("--batch_size", type=int, default=20)
    parser.add_argument("--gradient_accumulation_steps", type=int, default=4)
    parser.add_argument("--learning_rate", type=float, default=0.05)
    parser.add_argument("--weight_decay", type=float, default=5e-4)
    parser.add_argument("--warmup_steps", type=int, default=10)
    parser.add_argument("--max_grad_norm", type=float, default=2.0)
    parser.add_argument("--ema_decay", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=11)
    return parser.parse_args()


class BasicBlock(nn.Module):
    def __init__(self, cin, cout, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(4, cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(4, cout)
        self.shortcut = nn.Identity() if stride == 1 and cin == cout else nn.Conv2d(cin, cout, 1, stride, bias=False)

    def forward(self, x):
        h = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(h)) + self.shortcut(x))


class SmallResNet(nn.Module):
    def __init__(self, num_classes=10, width=12):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.layers = nn.Sequential(BasicBlock(width, width), BasicBlock(width, 2 * width, 2), BasicBlock(2 * width, 4 * width, 2))
        self.fc = nn.Linear(4 * width, num_classes)

    def forward(self, x):
        h = self.layers(self.stem(x))
        return self.fc(h.mean((2, 3)))


class EMAModel:
    def __init__(self, model, decay):
        self.decay, self.shadow = decay, copy.deepcopy(model).eval()
        for p in self.shadow.parameters():
            p.requires_grad_(False)

    @torch.no_grad()
    def step(self, model):
        for s, p in zip(self.shadow.parameters(), model.parameters()):
            s.lerp_(p.detach(), 1 - self.decay)


def get_dataloaders(batch_size):
    def transform(image):
        return (image.float() / 255 - 0.25) / 0.3

    train_ds, val_ds = Digits(train=True, count=1600, transform=transform), Digits(train=False, count=310, transform=transform)
    return DataLoader(train_ds, batch_size, shuffle=True, drop_last=True), DataLoader(val_ds, 64)


def get_optimizer(model, lr, weight_decay):
    decay = [p for p in model.parameters() if p.ndim >= 2]
    no_decay = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True)


def get_scheduler(optimizer, warmup, total):
    def factor(step):
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


@torch.no_grad()
def evaluate(model, loader, accelerator):
    model.eval()
    correct, seen, loss_sum = 0, 0, 0.0
    for images, labels in loader:
        logits = model(images)
        logits, labels = accelerator.gather_for_metrics((logits, labels))
        loss_sum += F.cross_entropy(logits, labels, reduction="sum").item()
        correct += (logits.argmax(dim=-1) == labels).sum().item()
        seen += labels.shape[0]
    return correct / seen, loss_sum / seen


def main():
    args = parse_args()
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=args.gradient_accumulation_steps)
    set_seed(args.seed)
    train_loader, val_loader = get_dataloaders(args.batch_size)
    model = SmallResNet()
    optimizer = get_optimizer(model, args.learning_rate, args.weight_decay)
    updates_per_epoch = math.ceil(len(train_loader) / args.gradient_accumulation_steps)
    total = updates_per_epoch * args.num_epochs
    scheduler = get_scheduler(optimizer, args.warmup_steps, total)
    model, optimizer, train_loader, val_loader = accelerator.prepare(model, optimizer, train_loader, val_loader)
    scheduler = accelerator.prepare(scheduler)
    ema = EMAModel(accelerator.unwrap_model(model), args.ema_decay)

    for epoch in range(args.num_epochs):
        model.train()
        running = 0.0
        for images, labels in train_loader:
            with accelerator.accumulate(model):
                loss = F.cross_entropy(model(images), labels)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                ema.step(accelerator.unwrap_model(model))
            running += loss.item()
        accuracy, val_loss = evaluate(ema.shadow, val_loader, accelerator)
        lr = scheduler.get_last_lr()[0]
        accelerator.print(f"epoch {epoch} train {running / len(train_loader):.4f} val {val_loss:.4f} acc {accuracy:.4f} lr {lr:.4f}")

    with tempfile.TemporaryDirectory() as folder:
        accelerator.wait_for_everyone()
        accelerator.save(ema.shadow.state_dict(), os.path.join(folder, "ema.pt"))


if __name__ == "__main__":
    main()
