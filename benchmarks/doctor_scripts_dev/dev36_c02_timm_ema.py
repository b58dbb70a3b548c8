"""Colored shapes with mixup, label smoothing, AdamW, bfloat16 autocast and an EMA of the weights (timm-like)."""
import copy
import math
import os
import tempfile
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import NAMES, Shapes

cfg = SimpleNamespace(
    seed=42, epochs=10, batch_size=50, lr=4e-3, min_lr=1e-5, warmup_epochs=1, weight_decay=0.05,
    clip_grad=5.0, mixup_alpha=0.2, mixup_prob=0.5, smoothing=0.1, ema_decay=0.97, amp_dtype=torch.bfloat16,
)
NUM_CLASSES = len(NAMES)


def train_transform(img):
    img = eval_transform(img)
    if torch.rand(1).item() < 0.5:
        img = img.flip(-1)
    return img * (0.85 + 0.3 * torch.rand(1))


def eval_transform(img):
    return (img - 0.5) / 0.2


class ConvNormAct(nn.Sequential):
    def __init__(self, in_chs, out_chs, stride=1):
        super().__init__(
            nn.Conv2d(in_chs, out_chs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(out_chs),
            nn.SiLU(inplace=True),
        )


class TinyNet(nn.Module):
    def __init__(self, num_classes, dims=(16, 32, 64), drop_rate=0.1):
        super().__init__()
        self.stem = ConvNormAct(3, dims[0])
        self.stages = nn.Sequential(
            ConvNormAct(dims[0], dims[1], stride=2), ConvNormAct(dims[1], dims[1]),
            ConvNormAct(dims[1], dims[2], stride=2), ConvNormAct(dims[2], dims[2]),
        )
        self.drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(dims[2], num_classes)

    def forward(self, x):
        x = self.stages(self.stem(x)).mean((2, 3))
        return self.head(self.drop(x))


class Mixup:
    def __init__(self, alpha, prob, smoothing, num_classes):
        self.alpha, self.prob, self.smoothing, self.num_classes = alpha, prob, smoothing, num_classes

    def one_hot(self, target):
        off = self.smoothing / self.num_classes
        full = torch.full((target.size(0), self.num_classes), off)
        return full.scatter_(1, target.unsqueeze(1), 1.0 - self.smoothing + off)

    def __call__(self, x, target):
        lam = float(np.random.beta(self.alpha, self.alpha)) if np.random.rand() < self.prob else 1.0
        perm = torch.randperm(x.size(0))
        mixed = lam * x + (1 - lam) * x[perm]
        return mixed, lam * self.one_hot(target) + (1 - lam) * self.one_hot(target[perm])


def soft_target_loss(logits, target):
    return torch.sum(-target * F.log_softmax(logits, dim=-1), dim=-1).mean()


class ModelEma:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.dtype.is_floating_point:
                ema_v.mul_(decay).add_(model_v, alpha=1 - decay)
            else:
                ema_v.copy_(model_v)


def param_groups(model, weight_decay):
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}]


def lr_at(update, updates_per_epoch):
    warmup, total = cfg.warmup_epochs * updates_per_epoch, cfg.epochs * updates_per_epoch
    if update < warmup:
        return cfg.lr * (update + 1) / warmup
    return cfg.min_lr + 0.5 * (cfg.lr - cfg.min_lr) * (1 + math.cos(math.pi * (update - warmup) / (total - warmup)))


@torch.no_grad()
def validate(model, loader):
    model.eval()
    correct, total = 0, 0
    for x, target in loader:
        with torch.autocast("cpu", dtype=cfg.amp_dtype):
            output = model(x)
        correct += (output.argmax(1) == target).sum().item()
        total += target.size(0)
    return 100.0 * correct / total


def main():
    np.random.seed(cfg.seed)
    torch.manual_seed(cfg.seed)
    loader_train = DataLoader(Shapes(train=True, transform=train_transform), cfg.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(Shapes(train=False, transform=eval_transform), 120)
    model = TinyNet(NUM_CLASSES)
    model_ema = ModelEma(model, cfg.ema_decay)
    mixup_fn = Mixup(cfg.mixup_alpha, cfg.mixup_prob, cfg.smoothing, NUM_CLASSES)
    optimizer = torch.optim.AdamW(param_groups(model, cfg.weight_decay), lr=cfg.lr)
    best_file = os.path.join(tempfile.mkdtemp(), "model_best.pth")
    best_metric, num_updates = -1.0, 0

    for epoch in range(cfg.epochs):
        model.train()
        total_loss, seen = 0.0, 0
        for x, target in loader_train:
            for group in optimizer.param_groups:
                group["lr"] = lr_at(num_updates, len(loader_train))
            x, target = mixup_fn(x, target)
            with torch.autocast("cpu", dtype=cfg.amp_dtype):
                output = model(x)
            loss = soft_target_loss(output.float(), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.clip_grad)
            optimizer.step()
            model_ema.update(model)
            num_updates += 1
            total_loss, seen = total_loss + loss.item() * x.size(0), seen + x.size(0)
        top1, top1_ema = validate(model, loader_eval), validate(model_ema.module, loader_eval)
        print(f"epoch {epoch}: loss {total_loss / seen:.3f}  top1 {top1:.1f}  top1 (ema) {top1_ema:.1f}")
        if top1_ema > best_metric:
            best_metric = top1_ema
            torch.save(model_ema.module.state_dict(), best_file)
    final = TinyNet(NUM_CLASSES)
    final.load_state_dict(torch.load(best_file))
    print(f"*** best metric: {best_metric:.1f} (reloaded: {validate(final, loader_eval):.1f})")


if __name__ == "__main__":
    main()
