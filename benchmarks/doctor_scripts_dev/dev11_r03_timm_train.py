"""Training in the manner of timm: mixup, random erasing, label smoothing, warmup + cosine, EMA of the model."""

import argparse
import copy
import logging
import math
import os
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

logging.basicConfig(level=logging.INFO, format="%(message)s")
_logger = logging.getLogger("train")

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--epochs", type=int, default=14)
parser.add_argument("--lr", type=float, default=4e-3)
parser.add_argument("--min-lr", type=float, default=1e-5)
parser.add_argument("--warmup-lr", type=float, default=1e-6)
parser.add_argument("--warmup-epochs", type=int, default=2)
parser.add_argument("--weight-decay", type=float, default=0.05)
parser.add_argument("--smoothing", type=float, default=0.1)
parser.add_argument("--mixup", type=float, default=0.2)
parser.add_argument("--mixup-prob", type=float, default=0.7)
parser.add_argument("--reprob", type=float, default=0.25)
parser.add_argument("--model-ema-decay", type=float, default=0.97)
parser.add_argument("--seed", type=int, default=42)


class RandomErasing:
    """Fills a rectangle of some images of a batch with noise."""

    def __init__(self, probability=0.25, min_area=0.02, max_area=0.1, min_aspect=0.3):
        self.probability, self.min_area, self.max_area = probability, min_area, max_area
        self.log_aspect = (math.log(min_aspect), math.log(1 / min_aspect))

    def __call__(self, batch):
        _, channels, height, width = batch.shape
        for image in batch:
            if np.random.rand() > self.probability:
                continue
            for _ in range(10):
                area = np.random.uniform(self.min_area, self.max_area) * height * width
                aspect = math.exp(np.random.uniform(*self.log_aspect))
                h, w = int(round(math.sqrt(area * aspect))), int(round(math.sqrt(area / aspect)))
                if h <= height and w <= width:
                    top, left = np.random.randint(0, height - h + 1), np.random.randint(0, width - w + 1)
                    image[:, top : top + h, left : left + w] = torch.randn(channels, h, w)
                    break
        return batch


class Mixup:
    def __init__(self, alpha, prob, smoothing, num_classes):
        self.alpha, self.prob, self.smoothing, self.num_classes = alpha, prob, smoothing, num_classes

    def one_hot(self, target):
        off = self.smoothing / self.num_classes
        return F.one_hot(target, self.num_classes) * (1 - self.smoothing) + off

    def __call__(self, x, target):
        lam = float(np.random.beta(self.alpha, self.alpha)) if np.random.rand() < self.prob else 1.0
        lam = max(lam, 1 - lam)
        x = x * lam + x.flip(0) * (1.0 - lam)
        target = self.one_hot(target) * lam + self.one_hot(target.flip(0)) * (1.0 - lam)
        return x, target


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


class CosineLRScheduler:
    def __init__(self, optimizer, t_initial, lr_min, warmup_t, warmup_lr_init):
        self.optimizer, self.t_initial, self.lr_min = optimizer, t_initial, lr_min
        self.warmup_t, self.warmup_lr_init = warmup_t, warmup_lr_init
        self.base = [group["lr"] for group in optimizer.param_groups]
        self.step(0)

    def step(self, t):
        for group, base in zip(self.optimizer.param_groups, self.base):
            if t < self.warmup_t:
                group["lr"] = self.warmup_lr_init + t * (base - self.warmup_lr_init) / self.warmup_t
            else:
                group["lr"] = self.lr_min + 0.5 * (base - self.lr_min) * (1 + math.cos(math.pi * t / self.t_initial))


class ModelEma(nn.Module):
    def __init__(self, model, decay):
        super().__init__()
        self.module = copy.deepcopy(model).eval()
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = self.decay
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.is_floating_point():
                ema_v.mul_(decay).add_(model_v, alpha=1 - decay)
            else:
                ema_v.copy_(model_v)


class ConvNeXtBlock(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.conv_dw = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.norm = nn.BatchNorm2d(dim)
        self.fc1, self.fc2 = nn.Conv2d(dim, 2 * dim, 1), nn.Conv2d(2 * dim, dim, 1)
        self.gamma = nn.Parameter(0.5 * torch.ones(dim, 1, 1))

    def forward(self, x):
        return x + self.gamma * self.fc2(F.gelu(self.fc1(self.norm(self.conv_dw(x)))))


def create_model(num_classes=10, dim=32):
    return nn.Sequential(
        nn.Conv2d(1, dim, 2, 2), nn.BatchNorm2d(dim), ConvNeXtBlock(dim), ConvNeXtBlock(dim), nn.Conv2d(dim, 2 * dim, 2, 2),
        nn.BatchNorm2d(2 * dim), ConvNeXtBlock(2 * dim), nn.Flatten(), nn.Linear(2 * dim * 16, num_classes),
    )


def param_groups_weight_decay(model, weight_decay):
    decay, no_decay = [], []
    for name, param in model.named_parameters():
        if param.ndim <= 1 or name.endswith(".bias") or "gamma" in name:
            no_decay.append(param)
        else:
            decay.append(param)
    return [{"params": no_decay, "weight_decay": 0.0}, {"params": decay, "weight_decay": weight_decay}]


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, mixup_fn, erase, model_ema):
    model.train()
    total = 0.0
    for input, target in loader:
        input, target = mixup_fn(erase(input), target)
        loss = loss_fn(model(input), target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        model_ema.update(model)
        total += loss.item() * len(input)
    _logger.info("Train: %d loss %.4f lr %.2e", epoch, total / len(loader.dataset), optimizer.param_groups[-1]["lr"])


@torch.no_grad()
def validate(model, loader, log_suffix=""):
    model.eval()
    correct = loss = 0
    for input, target in loader:
        output = model(input)
        loss += F.cross_entropy(output, target, reduction="sum").item()
        correct += (output.argmax(1) == target).sum().item()
    _logger.info("Test%s: loss %.4f acc@1 %.2f", log_suffix, loss / len(loader.dataset), 100 * correct / len(loader.dataset))
    return 100 * correct / len(loader.dataset)


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    transform = lambda image: (image.float() / 255 - 0.24) / 0.3  # noqa: E731
    loader_train = DataLoader(Digits(True, transform=transform, noise=0.2), args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(Digits(False, transform=transform, noise=0.2), 100)
    model = create_model()
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, args.weight_decay), lr=args.lr)
    model_ema = ModelEma(model, args.model_ema_decay)
    scheduler = CosineLRScheduler(optimizer, args.epochs, args.min_lr, warmup_t=args.warmup_epochs, warmup_lr_init=args.warmup_lr)
    mixup_fn = Mixup(args.mixup, args.mixup_prob, args.smoothing, 10)
    best, output_dir = 0.0, tempfile.mkdtemp()
    for epoch in range(args.epochs):
        train_one_epoch(epoch, model, loader_train, optimizer, SoftTargetCrossEntropy(), mixup_fn, RandomErasing(args.reprob), model_ema)
        metric = validate(model_ema.module, loader_eval, " (EMA)")
        scheduler.step(epoch + 1)
        if metric > best:
            best = metric
            torch.save(model_ema.module.state_dict(), os.path.join(output_dir, "model_best.pth.tar"))
    _logger.info("*** Best metric: %.2f", best)


if __name__ == "__main__":
    main()
