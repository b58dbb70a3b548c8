#!/usr/bin/env python3
"""Training script in the manner of timm: mixup, EMA of the weights, AMP, cosine with warmup."""
import argparse
import copy
import logging
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Shapes

_logger = logging.getLogger("train")
INCEPTION_MEAN = (0.5, 0.5, 0.5)
INCEPTION_STD = (0.5, 0.5, 0.5)

parser = argparse.ArgumentParser(description="Shapes training")
parser.add_argument("--num-classes", type=int, default=6)
parser.add_argument("-b", "--batch-size", type=int, default=32)
parser.add_argument("--epochs", type=int, default=9)
parser.add_argument("--warmup-epochs", type=int, default=1)
parser.add_argument("--lr", type=float, default=0.08)
parser.add_argument("--weight-decay", type=float, default=1e-4)
parser.add_argument("--clip-grad", type=float, default=2.0)
parser.add_argument("--mixup", type=float, default=0.3, help="mixup alpha")
parser.add_argument("--smoothing", type=float, default=0.05)
parser.add_argument("--model-ema-decay", type=float, default=0.95)


def resolve_data_config(dataset):
    images = torch.stack(dataset.images)
    return {"mean": tuple(images.mean(dim=(0, 2, 3)).tolist()), "std": tuple(images.std(dim=(0, 2, 3)).tolist())}


def create_transform(is_training, mean=INCEPTION_MEAN, std=INCEPTION_STD):
    mean, std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)

    def transform(image):
        if is_training:
            if torch.rand(()) < 0.5:
                image = image.flip(-1)
            size = image.shape[-1]
            top, left = torch.randint(0, 5, (2,)).tolist()
            image = F.pad(image.unsqueeze(0), (2, 2, 2, 2), mode="replicate")[0]
            image = image[:, top : top + size, left : left + size]
        return (image - mean) / std

    return transform


def create_model(num_classes, widths=(12, 24, 48)):
    layers, n_in = [], 3
    for i, width in enumerate(widths):
        conv = nn.Conv2d(n_in, width, 3, stride=1 if i == 0 else 2, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(width), nn.ReLU()]
        n_in = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(n_in * 16, num_classes))


def one_hot(target, num_classes, smoothing):
    return F.one_hot(target, num_classes) * (1.0 - smoothing) + smoothing / num_classes


def mixup_batch(x, target, args):
    lam = float(np.random.beta(args.mixup, args.mixup))
    perm = torch.randperm(x.size(0))
    x = x * lam + x[perm] * (1.0 - lam)
    y1 = one_hot(target, args.num_classes, args.smoothing)
    y2 = one_hot(target[perm], args.num_classes, args.smoothing)
    return x, y1 * lam + y2 * (1.0 - lam)


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
            ema_v.copy_(self.decay * ema_v + (1.0 - self.decay) * model_v)


class NativeScaler:
    def __init__(self, device="cpu"):
        self._scaler = torch.amp.GradScaler(device)

    def __call__(self, loss, optimizer, clip_grad, parameters):
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(parameters, clip_grad)
        self._scaler.step(optimizer)
        self._scaler.update()


def lr_at(num_updates, args, per_epoch, lr_min=1e-3):
    warmup_t, t_initial = args.warmup_epochs * per_epoch, args.epochs * per_epoch
    if num_updates < warmup_t:
        return lr_min + (args.lr - lr_min) * num_updates / warmup_t
    t = (num_updates - warmup_t) / (t_initial - warmup_t)
    return lr_min + 0.5 * (args.lr - lr_min) * (1 + math.cos(math.pi * t))


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, args, loss_scaler, model_ema):
    model.train()
    losses = []
    for i, (x, target) in enumerate(loader):
        for group in optimizer.param_groups:
            group["lr"] = lr_at(epoch * len(loader) + i, args, len(loader))
        x, target = mixup_batch(x, target, args)
        with torch.autocast(device_type="cpu", dtype=torch.bfloat16):
            output = model(x)
        loss = loss_fn(output.float(), target)
        optimizer.zero_grad()
        loss_scaler(loss, optimizer, clip_grad=args.clip_grad, parameters=model.parameters())
        model_ema.update(model)
        losses.append(loss.item())
    return np.mean(losses)


@torch.no_grad()
def validate(model, loader):
    model.eval()
    correct = sum((model(x).argmax(dim=1) == target).sum().item() for x, target in loader)
    return 100.0 * correct / len(loader.dataset)


def main():
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = parser.parse_args()
    np.random.seed(42)
    torch.manual_seed(42)

    dataset_train, dataset_eval = Shapes(train=True), Shapes(train=False)
    data_config = resolve_data_config(dataset_train)
    dataset_train.transform = create_transform(is_training=True, **data_config)
    dataset_eval.transform = create_transform(is_training=False, **data_config)
    loader_train = DataLoader(dataset_train, batch_size=args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(dataset_eval, batch_size=120)

    model = create_model(args.num_classes)
    model_ema = ModelEma(model, decay=args.model_ema_decay)
    optimizer = torch.optim.SGD(model.parameters(), args.lr, 0.9, weight_decay=args.weight_decay, nesterov=True)
    loss_fn, loss_scaler = SoftTargetCrossEntropy(), NativeScaler()
    for epoch in range(args.epochs):
        loss = train_one_epoch(epoch, model, loader_train, optimizer, loss_fn, args, loss_scaler, model_ema)
        top1 = validate(model_ema.module, loader_eval)
        _logger.info(f"Train: {epoch}  Loss: {loss:.4f}  EMA Acc@1: {top1:.2f}")


if __name__ == "__main__":
    main()
