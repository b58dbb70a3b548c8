import argparse
import logging
import math
from collections import OrderedDict
from contextlib import suppress
from copy import deepcopy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from toydata import Digits

_logger = logging.getLogger("train")


class Mixup:
    def __init__(self, mixup_alpha=0.2, prob=1.0, label_smoothing=0.1, num_classes=10):
        self.mixup_alpha, self.prob = mixup_alpha, prob
        self.label_smoothing, self.num_classes = label_smoothing, num_classes
        self.mixup_enabled = True

    def __call__(self, x, target):
        assert len(x) % 2 == 0, "Batch size should be even when using this"
        lam = 1.0
        if self.mixup_enabled and np.random.rand() < self.prob:
            lam = float(np.random.beta(self.mixup_alpha, self.mixup_alpha))
            x = x * lam + x.flip(0) * (1.0 - lam)
        off = self.label_smoothing / self.num_classes
        on = 1.0 - self.label_smoothing + off
        y1 = torch.full((len(x), self.num_classes), off).scatter_(1, target.view(-1, 1), on)
        y2 = torch.full((len(x), self.num_classes), off).scatter_(1, target.flip(0).view(-1, 1), on)
        return x, y1 * lam + y2 * (1.0 - lam)


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


class ModelEmaV2(nn.Module):
    def __init__(self, model, decay=0.9):
        super().__init__()
        self.module = deepcopy(model).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            ema_v.copy_(self.decay * ema_v + (1.0 - self.decay) * model_v)


class CosineLRScheduler:
    def __init__(self, optimizer, t_initial, lr_min=1e-5, warmup_t=0, warmup_lr_init=1e-4):
        self.optimizer, self.t_initial, self.lr_min = optimizer, t_initial, lr_min
        self.warmup_t, self.warmup_lr_init = warmup_t, warmup_lr_init
        self.base = [g["lr"] for g in optimizer.param_groups]
        self.step_update(0)

    def step_update(self, t):
        for group, base in zip(self.optimizer.param_groups, self.base):
            if t < self.warmup_t:
                group["lr"] = self.warmup_lr_init + t * (base - self.warmup_lr_init) / self.warmup_t
            else:
                progress = min(t / self.t_initial, 1.0)
                group["lr"] = self.lr_min + 0.5 * (base - self.lr_min) * (1 + math.cos(math.pi * progress))


def create_model(drop_rate=0.0):
    def block(cin, cout):
        return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(OrderedDict(stem=block(1, 16), stage1=block(16, 32), flat=nn.Flatten(),
                                     drop=nn.Dropout(drop_rate), head=nn.Linear(32 * 16, 10)))


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, args, lr_scheduler, amp_autocast, model_ema, mixup_fn):
    model.train()
    num_updates = epoch * len(loader)
    total = 0.0
    for input, target in loader:
        input, target = mixup_fn(input.contiguous(memory_format=torch.channels_last), target)
        with amp_autocast():
            output = model(input)
            loss = loss_fn(output, target)
        optimizer.zero_grad()
        loss.backward()
        if args.clip_grad is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        optimizer.step()
        model_ema.update(model)
        num_updates += 1
        lr_scheduler.step_update(num_updates)
        total += loss.item()
    return OrderedDict([("loss", total / len(loader))])


@torch.no_grad()
def validate(model, loader, loss_fn):
    model.eval()
    right = count = loss = 0
    for input, target in loader:
        output = model(input)
        loss += loss_fn(output, target).item() * len(input)
        right += output.argmax(1).eq(target).sum().item()
        count += len(input)
    return OrderedDict([("loss", loss / count), ("top1", 100 * right / count)])


def main():
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--clip-grad", type=float, default=2.0)
    parser.add_argument("--mixup", type=float, default=0.2)
    args, _ = parser.parse_known_args()
    torch.manual_seed(0)
    np.random.seed(0)

    prep = lambda im: im.float() / 255.0  # noqa: E731
    train_set, eval_set = Digits(True, transform=prep, noise=0.2), Digits(False, transform=prep, noise=0.2)
    loader_train = torch.utils.data.DataLoader(train_set, args.batch_size, shuffle=True, drop_last=True)
    loader_eval = torch.utils.data.DataLoader(eval_set, 4 * args.batch_size)
    model = create_model(drop_rate=0.1).to(memory_format=torch.channels_last)
    decay, no_decay = [], []
    for name, p in model.named_parameters():
        (no_decay if p.ndim <= 1 or name.endswith(".bias") else decay).append(p)
    optimizer = torch.optim.SGD([{"params": no_decay, "weight_decay": 0.0}, {"params": decay, "weight_decay": 1e-4}],
                                lr=args.lr, momentum=0.9)
    lr_scheduler = CosineLRScheduler(optimizer, t_initial=args.epochs * len(loader_train), warmup_t=len(loader_train))
    model_ema = ModelEmaV2(model)
    mixup_fn = Mixup(args.mixup)
    for epoch in range(args.epochs):
        if epoch >= args.epochs - 2:
            mixup_fn.mixup_enabled = False
        train_metrics = train_one_epoch(epoch, model, loader_train, optimizer, SoftTargetCrossEntropy(), args,
                                        lr_scheduler, suppress, model_ema, mixup_fn)
        eval_metrics = validate(model_ema.module, loader_eval, nn.CrossEntropyLoss())
        _logger.info(f"Train: {epoch} {dict(train_metrics)} Test (EMA): {dict(eval_metrics)}")


if __name__ == "__main__":
    main()
