"""Image classification in the manner of timm's train.py: mixup, EMA, warmup and cosine, AdamW without decay of norms."""

import argparse
import copy
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

DIGITS_MEAN, DIGITS_STD = (0.15,), (0.28,)

parser = argparse.ArgumentParser(description="Digit Training")
parser.add_argument("-b", "--batch-size", type=int, default=48)
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("--lr-base", type=float, default=1e-2, help="learning rate for a batch of lr-base-size")
parser.add_argument("--lr-base-size", type=int, default=256)
parser.add_argument("--warmup-epochs", type=int, default=1)
parser.add_argument("--weight-decay", type=float, default=0.02)
parser.add_argument("--drop", type=float, default=0.1)
parser.add_argument("--mixup", type=float, default=0.2)
parser.add_argument("--smoothing", type=float, default=0.05)
parser.add_argument("--model-ema-decay", type=float, default=0.95)
parser.add_argument("--seed", type=int, default=42)

class AverageMeter:
    def __init__(self):
        self.sum = self.count = 0
    def update(self, val, n=1):
        self.sum += val * n
        self.count += n
    @property
    def avg(self):
        return self.sum / self.count

class ConvNormAct(nn.Sequential):
    def __init__(self, in_chs, out_chs, stride=1):
        super().__init__(
            nn.Conv2d(in_chs, out_chs, 3, stride, 1, bias=False), nn.BatchNorm2d(out_chs), nn.SiLU(inplace=True)
        )

class TinyNet(nn.Module):
    def __init__(self, num_classes=10, in_chans=1, width=16, drop_rate=0.0):
        super().__init__()
        self.stem = ConvNormAct(in_chans, width)
        self.stages = nn.Sequential(
            ConvNormAct(width, 2 * width, 2),
            ConvNormAct(2 * width, 2 * width),
            ConvNormAct(2 * width, 4 * width, 2),
        )
        self.head_drop = nn.Dropout(drop_rate)
        self.fc = nn.Linear(4 * width * 16, num_classes)
    def forward(self, x):
        x = self.stages(self.stem(x)).flatten(1)
        return self.fc(self.head_drop(x))

class ModelEma(nn.Module):
    def __init__(self, model, decay):
        super().__init__()
        self.module = copy.deepcopy(model).eval()
        self.decay = decay
    @torch.no_grad()
    def update(self, model):
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            averaged = ema_v.dtype.is_floating_point
            ema_v.copy_(self.decay * ema_v + (1.0 - self.decay) * model_v if averaged else model_v)

class Mixup:
    def __init__(self, alpha, smoothing, num_classes):
        self.alpha, self.smoothing, self.num_classes = alpha, smoothing, num_classes
    def one_hot(self, target):
        off_value = self.smoothing / self.num_classes
        y = torch.full((len(target), self.num_classes), off_value)
        return y.scatter_(1, target.view(-1, 1), 1.0 - self.smoothing + off_value)
    def __call__(self, x, target):
        lam = float(np.random.beta(self.alpha, self.alpha))
        x = x * lam + x.flip(0) * (1.0 - lam)
        target = self.one_hot(target) * lam + self.one_hot(target.flip(0)) * (1.0 - lam)
        return x, target

class PrefetchLoader:
    """Normalizes uint8 batches, so mean and std are those of 0 to 255."""
    def __init__(self, loader, mean=DIGITS_MEAN, std=DIGITS_STD):
        self.loader = loader
        self.mean = torch.tensor([m * 255 for m in mean]).view(1, -1, 1, 1)
        self.std = torch.tensor([s * 255 for s in std]).view(1, -1, 1, 1)
    def __iter__(self):
        for inputs, target in self.loader:
            yield inputs.float().sub_(self.mean).div_(self.std), target
    def __len__(self):
        return len(self.loader)

class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()

def param_groups_weight_decay(model, weight_decay):
    decay, no_decay = [], []
    for _, param in model.named_parameters():
        (no_decay if param.ndim <= 1 else decay).append(param)
    return [{"params": no_decay, "weight_decay": 0.0}, {"params": decay, "weight_decay": weight_decay}]

def cosine_lr(args, update, updates_per_epoch):
    warmup_t, total_t = args.warmup_epochs * updates_per_epoch, args.epochs * updates_per_epoch
    if update < warmup_t:
        return args.lr * (update + 1) / warmup_t
    t = (update - warmup_t) / (total_t - warmup_t)
    return 0.5 * args.lr * (1 + math.cos(math.pi * t))

def train_one_epoch(epoch, model, loader, optimizer, loss_fn, args, mixup_fn, model_ema):
    model.train()
    losses_m = AverageMeter()
    for batch_idx, (inputs, target) in enumerate(loader):
        inputs, target = mixup_fn(inputs, target)
        for group in optimizer.param_groups:
            group["lr"] = cosine_lr(args, epoch * len(loader) + batch_idx, len(loader))
        loss = loss_fn(model(inputs), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model_ema.update(model)
        losses_m.update(loss.item(), inputs.size(0))
    return losses_m.avg

@torch.no_grad()
def validate(model, loader):
    model.eval()
    top1_m = AverageMeter()
    for inputs, target in loader:
        output = model(inputs)
        top1_m.update(100.0 * (output.argmax(1) == target).float().mean().item(), inputs.size(0))
    return top1_m.avg

def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    args.lr = args.lr_base * args.batch_size / args.lr_base_size
    model = TinyNet(drop_rate=args.drop)
    model_ema = ModelEma(model, args.model_ema_decay)
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, args.weight_decay), lr=args.lr)
    dataset_train, dataset_eval = Digits(train=True), Digits(train=False)
    loader_train = PrefetchLoader(DataLoader(dataset_train, args.batch_size, shuffle=True, drop_last=True))
    loader_eval = PrefetchLoader(DataLoader(dataset_eval, 100))
    mixup_fn = Mixup(args.mixup, args.smoothing, num_classes=10)
    train_loss_fn, best = SoftTargetCrossEntropy(), None
    for epoch in range(args.epochs):
        train_loss = train_one_epoch(epoch, model, loader_train, optimizer, train_loss_fn, args, mixup_fn, model_ema)
        ema_top1 = validate(model_ema.module, loader_eval)
        print(f"Train: {epoch} loss {train_loss:.3f}  EMA acc@1 {ema_top1:.2f}")
        if best is None or ema_top1 > best[0]:
            best = (ema_top1, epoch, copy.deepcopy(model_ema.module.state_dict()))
    print(f"*** Best metric: {best[0]:.2f} (epoch {best[1]})")

if __name__ == "__main__":
    main()
