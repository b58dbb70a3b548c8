"""Small image classifier in the manner of timm's train.py: mixup, EMA, cosine schedule with warm-up."""
import argparse
import copy
import math
import os
import tempfile
from contextlib import nullcontext

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser(description="PyTorch Image Training")
parser.add_argument("-b", "--batch-size", type=int, default=64)
parser.add_argument("--epochs", type=int, default=14)
parser.add_argument("--warmup-epochs", type=int, default=1)
parser.add_argument("--lr", type=float, default=4e-3)
parser.add_argument("--min-lr", type=float, default=1e-5)
parser.add_argument("--weight-decay", type=float, default=0.05)
parser.add_argument("--mixup", type=float, default=0.2)
parser.add_argument("--smoothing", type=float, default=0.1)
parser.add_argument("--model-ema-decay", type=float, default=0.97)
parser.add_argument("--clip-grad", type=float, default=1.0)
parser.add_argument("--amp", action="store_true")
parser.add_argument("--seed", type=int, default=42)


def one_hot(x, num_classes, on_value, off_value):
    x = x.long().view(-1, 1)
    return torch.full((x.size(0), num_classes), off_value).scatter_(1, x, on_value)


class Mixup:
    def __init__(self, alpha, num_classes, label_smoothing):
        self.alpha, self.num_classes, self.smoothing = alpha, num_classes, label_smoothing

    def __call__(self, x, target):
        lam = float(np.random.beta(self.alpha, self.alpha))
        off = self.smoothing / self.num_classes
        on = 1.0 - self.smoothing + off
        y1 = one_hot(target, self.num_classes, on, off)
        y2 = one_hot(target.flip(0), self.num_classes, on, off)
        x = x * lam + x.flip(0) * (1.0 - lam)
        return x, y1 * lam + y2 * (1.0 - lam)


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        loss = torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1)
        return loss.mean()


class ModelEma(nn.Module):
    def __init__(self, model, decay):
        super().__init__()
        self.module = copy.deepcopy(model).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.dtype.is_floating_point:
                ema_v.mul_(self.decay).add_(model_v, alpha=1.0 - self.decay)
            else:
                ema_v.copy_(model_v)


class Block(nn.Module):
    """ConvNeXt-like block with a residual."""

    def __init__(self, dim):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.norm = nn.GroupNorm(1, dim)
        self.pw1 = nn.Conv2d(dim, 2 * dim, 1)
        self.pw2 = nn.Conv2d(2 * dim, dim, 1)

    def forward(self, x):
        h = self.pw2(F.gelu(self.pw1(self.norm(self.dwconv(x)))))
        return x + h


class Net(nn.Module):
    def __init__(self, num_classes, dim=32, depth=3):
        super().__init__()
        self.stem = nn.Conv2d(1, dim, 2, stride=2)
        self.blocks = nn.Sequential(*[Block(dim) for _ in range(depth)])
        self.head = nn.Linear(dim * 16, num_classes)

    def forward(self, x):
        x = self.blocks(self.stem(x))
        return self.head(x.flatten(1))


def param_groups_weight_decay(model, weight_decay):
    decay, no_decay = [], []
    for name, p in model.named_parameters():
        (no_decay if p.ndim <= 1 else decay).append(p)
    return [{"params": no_decay, "weight_decay": 0.0}, {"params": decay, "weight_decay": weight_decay}]


def lr_at(update, num_updates, warmup_updates, args):
    if update < warmup_updates:
        return args.lr * (update + 1) / warmup_updates
    t = (update - warmup_updates) / max(1, num_updates - warmup_updates)
    return args.min_lr + 0.5 * (args.lr - args.min_lr) * (1 + math.cos(math.pi * t))


def create_loaders(args):
    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)[:, None]
    x_tr, x_va, y_tr, y_va = train_test_split(images, digits.target, test_size=0.25, random_state=0, stratify=digits.target)
    mean, std = x_tr.mean(), x_tr.std()
    train_set = TensorDataset(torch.from_numpy((x_tr - mean) / std), torch.from_numpy(y_tr))
    eval_set = TensorDataset(torch.from_numpy((x_va - mean) / std), torch.from_numpy(y_va))
    return (DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True),
            DataLoader(eval_set, batch_size=256, shuffle=False))


def validate(model, loader, loss_fn):
    model.eval()
    loss_sum, correct, n = 0.0, 0, 0
    with torch.no_grad():
        for input, target in loader:
            output = model(input)
            loss_sum += loss_fn(output, target).item() * len(target)
            correct += (output.argmax(1) == target).sum().item()
            n += len(target)
    return {"loss": loss_sum / n, "top1": 100.0 * correct / n}


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    loader_train, loader_eval = create_loaders(args)
    model = Net(10)
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, args.weight_decay), lr=args.lr)
    model_ema = ModelEma(model, args.model_ema_decay)
    amp_autocast = (lambda: torch.autocast("cpu", torch.bfloat16)) if args.amp else nullcontext
    mixup_fn = Mixup(args.mixup, 10, args.smoothing)
    train_loss_fn, validate_loss_fn = SoftTargetCrossEntropy(), nn.CrossEntropyLoss()
    updates_per_epoch = len(loader_train)
    num_updates, best = 0, 0.0
    for epoch in range(args.epochs):
        model.train()
        losses = []
        for input, target in loader_train:
            for group in optimizer.param_groups:
                group["lr"] = lr_at(num_updates, args.epochs * updates_per_epoch, args.warmup_epochs * updates_per_epoch, args)
            input, target = mixup_fn(input, target)
            with amp_autocast():
                loss = train_loss_fn(model(input), target)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
            optimizer.step()
            model_ema.update(model)
            num_updates += 1
            losses.append(loss.item())
        eval_metrics = validate(model, loader_eval, validate_loss_fn)
        ema_metrics = validate(model_ema.module, loader_eval, validate_loss_fn)
        print(f"Train: {epoch} loss {np.mean(losses):.3f} | Test top1 {eval_metrics['top1']:.2f} | EMA top1 {ema_metrics['top1']:.2f} loss {ema_metrics['loss']:.3f}")
        if ema_metrics["top1"] > best:
            best = ema_metrics["top1"]
            torch.save({"state_dict_ema": model_ema.module.state_dict()}, os.path.join(tempfile.gettempdir(), "timm_best.pth.tar"))
    print(f"*** Best metric: {best:.2f}")


if __name__ == "__main__":
    main()
