"""Training with mixup, EMA weights and a warmed-up cosine schedule, in the manner of timm's train script."""

import argparse
import copy
import logging
import math
import os
import tempfile
from collections import OrderedDict

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Shapes

_logger = logging.getLogger("train")

parser = argparse.ArgumentParser(description="Shape classification")
group = parser.add_argument_group("Model")
group.add_argument("--width", type=int, default=24)
group.add_argument("--num-classes", type=int, default=6)
group = parser.add_argument_group("Optimizer")
group.add_argument("--opt", default="adamw")
group.add_argument("--lr", type=float, default=4e-3)
group.add_argument("--weight-decay", type=float, default=0.05)
group.add_argument("--clip-grad", type=float, default=5.0)
group = parser.add_argument_group("Schedule")
group.add_argument("--epochs", type=int, default=14)
group.add_argument("--warmup-epochs", type=int, default=2)
group.add_argument("--warmup-lr", type=float, default=1e-5)
group.add_argument("--min-lr", type=float, default=1e-5)
group = parser.add_argument_group("Regularization")
group.add_argument("--mixup", type=float, default=0.2)
group.add_argument("--smoothing", type=float, default=0.05)
group.add_argument("--model-ema-decay", type=float, default=0.97)
parser.add_argument("-b", "--batch-size", type=int, default=32)
parser.add_argument("--seed", type=int, default=42)
parser.add_argument("--output", default="")


class ConvBnAct(nn.Sequential):
    def __init__(self, in_chs, out_chs, stride=1):
        super().__init__(
            nn.Conv2d(in_chs, out_chs, 3, stride, 1, bias=False), nn.BatchNorm2d(out_chs), nn.SiLU(inplace=True)
        )


class TinyConvNet(nn.Module):
    def __init__(self, num_classes, width):
        super().__init__()
        self.stem = ConvBnAct(3, width)
        self.stages = nn.Sequential(ConvBnAct(width, width, 2), ConvBnAct(width, 2 * width), ConvBnAct(2 * width, 2 * width, 2))
        self.head = nn.Linear(2 * width, num_classes)
        self.init_weights()

    def init_weights(self):
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        x = self.stages(self.stem(x))
        return self.head(x.mean((2, 3)))


class ModelEma(nn.Module):
    """Moving average of everything in the state dict."""

    def __init__(self, model, decay):
        super().__init__()
        self.module = copy.deepcopy(model).eval()
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = self.decay
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            ema_v.copy_(decay * ema_v + (1.0 - decay) * model_v)


def one_hot(target, num_classes, smoothing):
    off = smoothing / num_classes
    return torch.full((target.size(0), num_classes), off).scatter_(1, target.view(-1, 1), 1.0 - smoothing + off)


class Mixup:
    def __init__(self, alpha, smoothing, num_classes):
        self.alpha, self.smoothing, self.num_classes = alpha, smoothing, num_classes

    def __call__(self, x, target):
        lam = float(np.random.beta(self.alpha, self.alpha)) if self.alpha > 0 else 1.0
        y1 = one_hot(target, self.num_classes, self.smoothing)
        y2 = one_hot(target.flip(0), self.num_classes, self.smoothing)
        x = x * lam + x.flip(0) * (1.0 - lam)
        return x, y1 * lam + y2 * (1.0 - lam)


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


class CosineLRScheduler:
    def __init__(self, optimizer, t_initial, warmup_t, warmup_lr_init, lr_min):
        self.optimizer, self.t_initial, self.warmup_t = optimizer, t_initial, warmup_t
        self.warmup_lr_init, self.lr_min = warmup_lr_init, lr_min
        self.base_lrs = [pg["lr"] for pg in optimizer.param_groups]
        self.step_update(0)

    def step_update(self, t):
        for pg, base in zip(self.optimizer.param_groups, self.base_lrs):
            if t < self.warmup_t:
                pg["lr"] = self.warmup_lr_init + t * (base - self.warmup_lr_init) / self.warmup_t
            else:
                done = min(1.0, t / self.t_initial)
                pg["lr"] = self.lr_min + 0.5 * (base - self.lr_min) * (1 + math.cos(math.pi * done))


def param_groups_weight_decay(model, weight_decay):
    decay, no_decay = [], []
    for name, param in model.named_parameters():
        if not param.requires_grad:
            continue
        if param.ndim <= 1 or name.endswith(".bias"):
            no_decay.append(param)
        else:
            decay.append(param)
    return [{"params": no_decay, "weight_decay": 0.0}, {"params": decay, "weight_decay": weight_decay}]


def create_optimizer(args, model):
    params = param_groups_weight_decay(model, args.weight_decay)
    if args.opt == "sgd":
        return torch.optim.SGD(params, lr=args.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(params, lr=args.lr)


def preprocess(image):
    return (image - 0.5) / 0.2


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, args, lr_scheduler, mixup_fn, model_ema):
    model.train()
    num_updates = epoch * len(loader)
    total = 0.0
    for input, target in loader:
        input, target = mixup_fn(input, target)
        loss = loss_fn(model(input), target)
        optimizer.zero_grad()
        loss.backward()
        if args.clip_grad:
            nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        optimizer.step()
        model_ema.update(model)
        num_updates += 1
        lr_scheduler.step_update(num_updates)
        total += loss.item()
    lr = optimizer.param_groups[0]["lr"]
    _logger.info(f"Train: {epoch}  loss: {total / len(loader):.4f}  lr: {lr:.2e}")
    return OrderedDict(loss=total / len(loader))


@torch.no_grad()
def validate(model, loader, log_suffix=""):
    model.eval()
    loss_sum, correct, count = 0.0, 0, 0
    for input, target in loader:
        output = model(input)
        loss_sum += F.cross_entropy(output, target, reduction="sum").item()
        correct += (output.argmax(-1) == target).sum().item()
        count += target.numel()
    metrics = OrderedDict(loss=loss_sum / count, top1=100.0 * correct / count)
    _logger.info(f"Test{log_suffix}: loss: {metrics['loss']:.4f}  acc@1: {metrics['top1']:.2f}")
    return metrics


def main():
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    loader_train = DataLoader(
        Shapes(train=True, transform=preprocess), batch_size=args.batch_size, shuffle=True, drop_last=True
    )
    loader_eval = DataLoader(Shapes(train=False, transform=preprocess), batch_size=64)

    model = TinyConvNet(args.num_classes, args.width)
    optimizer = create_optimizer(args, model)
    model_ema = ModelEma(model, decay=args.model_ema_decay)
    updates_per_epoch = len(loader_train)
    lr_scheduler = CosineLRScheduler(
        optimizer, args.epochs * updates_per_epoch, args.warmup_epochs * updates_per_epoch, args.warmup_lr, args.min_lr
    )
    mixup_fn = Mixup(args.mixup, args.smoothing, args.num_classes)
    loss_fn = SoftTargetCrossEntropy()

    output_dir, best = args.output or tempfile.mkdtemp(), None
    for epoch in range(args.epochs):
        train_one_epoch(epoch, model, loader_train, optimizer, loss_fn, args, lr_scheduler, mixup_fn, model_ema)
        metrics = validate(model_ema.module, loader_eval, log_suffix=" (EMA)")
        if best is None or metrics["top1"] > best[0]:
            best = (metrics["top1"], epoch)
            torch.save({"state_dict_ema": model_ema.module.state_dict()}, os.path.join(output_dir, "model_best.pth"))
    _logger.info(f"*** Best metric: {best[0]:.2f} (epoch {best[1]})")


if __name__ == "__main__":
    main()
