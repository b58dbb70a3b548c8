"""Mixup, label smoothing and an averaged model on colored shapes, in the manner of timm's train.py."""
import copy
import logging
import math
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

import toydata

logging.basicConfig(level=logging.INFO, format="%(message)s")
_logger = logging.getLogger("train")

cfg = SimpleNamespace(
    num_classes=6,
    batch_size=50,
    epochs=10,
    mixup_off_epoch=8,
    mixup=0.2,
    smoothing=0.05,
    lr=5e-3,
    min_lr=5e-5,
    warmup_updates=28,
    weight_decay=0.02,
    model_ema_decay=0.97,
    seed=42,
)


def conv_bn_act(in_chs, out_chs, stride=1):
    return nn.Sequential(
        nn.Conv2d(in_chs, out_chs, 3, stride, 1, bias=False), nn.BatchNorm2d(out_chs), nn.SiLU(inplace=True)
    )


class TinyNet(nn.Module):
    def __init__(self, num_classes, drop_rate=0.1):
        super().__init__()
        self.stem = conv_bn_act(3, 16)
        self.blocks = nn.Sequential(
            conv_bn_act(16, 32, 2), conv_bn_act(32, 32), conv_bn_act(32, 64, 2), conv_bn_act(64, 64)
        )
        self.drop = nn.Dropout(drop_rate)
        self.classifier = nn.Linear(64, num_classes)

    def forward_features(self, x):
        return self.blocks(self.stem(x))

    def forward(self, x):
        return self.classifier(self.drop(self.forward_features(x).mean((2, 3))))


class ModelEma(nn.Module):
    def __init__(self, model, decay):
        super().__init__()
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
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


def param_groups_weight_decay(model, weight_decay):
    decay, no_decay = [], []
    for param in model.parameters():
        (no_decay if param.ndim <= 1 else decay).append(param)
    return [{"params": no_decay, "weight_decay": 0.0}, {"params": decay, "weight_decay": weight_decay}]


def lr_at(update, total):
    if update < cfg.warmup_updates:
        return cfg.lr * (update + 1) / cfg.warmup_updates
    t = (update - cfg.warmup_updates) / (total - cfg.warmup_updates)
    return cfg.min_lr + 0.5 * (cfg.lr - cfg.min_lr) * (1 + math.cos(math.pi * t))


def mixup_batch(images, labels, epoch):
    lam = float(np.random.beta(cfg.mixup, cfg.mixup)) if epoch < cfg.mixup_off_epoch else 1.0
    index = torch.randperm(len(images))
    images = lam * images + (1 - lam) * images[index]
    off = cfg.smoothing / cfg.num_classes
    one_hot = torch.full((len(labels), cfg.num_classes), off).scatter_(1, labels[:, None], 1 - cfg.smoothing + off)
    return images, lam * one_hot + (1 - lam) * one_hot[index]


def mixup_loss(logits, soft_target):
    return torch.sum(-soft_target * F.log_softmax(logits, dim=-1), dim=-1).mean()


def create_loader(train, mean, std):
    def transform(image):
        if train and torch.rand(()) < 0.5:
            image = image.flip(-1)
        if train and torch.rand(()) < 0.5:
            image = image.flip(-2)
        return (image - mean) / std

    dataset = toydata.Shapes(train=train, count=1400 if train else 300, transform=transform)
    return DataLoader(dataset, batch_size=cfg.batch_size, shuffle=train, drop_last=train)


@torch.no_grad()
def validate(model, loader, suffix=""):
    model.eval()
    correct, loss, total = 0, 0.0, 0
    for images, labels in loader:
        output = model(images)
        loss += F.cross_entropy(output, labels, reduction="sum").item()
        correct += (output.argmax(1) == labels).sum().item()
        total += len(labels)
    _logger.info(f"Test{suffix}: loss {loss / total:.4f} acc@1 {100 * correct / total:.2f}")
    return 100 * correct / total


def main():
    torch.manual_seed(cfg.seed)
    np.random.seed(cfg.seed)
    pixels = torch.stack(toydata.Shapes(train=True, count=1400).images)
    mean, std = pixels.mean((0, 2, 3)).view(3, 1, 1), pixels.std((0, 2, 3)).view(3, 1, 1)
    loader_train, loader_eval = create_loader(True, mean, std), create_loader(False, mean, std)

    model = TinyNet(cfg.num_classes)
    model_ema = ModelEma(model, cfg.model_ema_decay)
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, cfg.weight_decay), lr=cfg.lr)
    num_updates, total_updates, best_metric = 0, cfg.epochs * len(loader_train), None
    for epoch in range(cfg.epochs):
        model.train()
        running = 0.0
        for images, labels in loader_train:
            for group in optimizer.param_groups:
                group["lr"] = lr_at(num_updates, total_updates)
            images, target = mixup_batch(images, labels, epoch)
            loss = mixup_loss(model(images), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            model_ema.update(model)
            num_updates += 1
            running += loss.detach()
        _logger.info(f"Train {epoch}: loss {running.item() / len(loader_train):.4f}")
        validate(model, loader_eval)
        metric = validate(model_ema.module, loader_eval, " (EMA)")
        if best_metric is None or metric > best_metric:
            best_metric, best_state = metric, copy.deepcopy(model_ema.module.state_dict())
    _logger.info(f"*** Best metric: {best_metric:.2f} ({len(best_state)} tensors kept)")


if __name__ == "__main__":
    main()
