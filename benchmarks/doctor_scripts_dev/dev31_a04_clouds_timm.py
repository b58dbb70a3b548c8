#!/usr/bin/env python3
"""Train a small convnet on pictures of the sky: mixup, EMA of the weights, warmup and cosine, in the way of timm's train.py."""
import argparse
import copy
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

parser = argparse.ArgumentParser(description="Sky training")
parser.add_argument("--epochs", type=int, default=13)
parser.add_argument("-b", "--batch-size", type=int, default=32)
parser.add_argument("--lr", type=float, default=2e-3)
parser.add_argument("--weight-decay", type=float, default=0.05)
parser.add_argument("--warmup-steps", type=int, default=40)
parser.add_argument("--mixup", type=float, default=0.2)
parser.add_argument("--drop", type=float, default=0.1)
parser.add_argument("--model-ema-decay", type=float, default=0.98)
parser.add_argument("--seed", type=int, default=42)

CLOUDS = ["cumulus", "altocumulus", "stratus", "cirrus", "contrail"]
MEAN, STD = (0.55, 0.66, 0.82), (0.22, 0.17, 0.10)


def field(rng, size, along, across, angle=0.0):
    """Noise made smooth, more so along an angle than across it."""
    ky, kx = np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size), indexing="ij")
    ku, kv = kx * np.cos(angle) + ky * np.sin(angle), ky * np.cos(angle) - kx * np.sin(angle)
    spectrum = np.fft.fft2(rng.normal(size=(size, size))) * np.exp(-20 * ((ku * along) ** 2 + (kv * across) ** 2))
    smooth = np.real(np.fft.ifft2(spectrum))
    return (smooth - smooth.mean()) / (smooth.std() + 1e-6)


def draw_sky(kind, rng, size=32):
    y, x = np.mgrid[0:size, 0:size] / size
    if kind == 0:
        cover = (0.8 * field(rng, size, 3.0, 3.0)).clip(0, 1)
    elif kind == 1:
        cover = (0.8 * field(rng, size, 0.9, 0.9)).clip(0, 1)
    elif kind == 2:
        cover = (0.5 + 0.35 * field(rng, size, 9.0, 1.5)).clip(0, 1)
    elif kind == 3:
        cover = (0.6 * field(rng, size, 7.0, 0.8, rng.uniform(0.8, 1.2))).clip(0, 1)
    else:
        angle = rng.uniform(0, np.pi)
        distance = (x - rng.uniform(0.3, 0.7)) * np.sin(angle) - (y - rng.uniform(0.3, 0.7)) * np.cos(angle)
        cover = 0.9 * np.exp(-((distance / 0.05) ** 2)) + (0.15 * field(rng, size, 3.0, 3.0)).clip(0, 1)
    cover = cover.clip(0, 1)[..., None] * rng.uniform(0.75, 1)
    blue = np.array([0.3, 0.5, 0.8]) * rng.uniform(0.8, 1.1) + 0.15 * y[..., None]
    image = (1 - cover) * blue + cover * 0.95 + rng.normal(0, 0.04, (size, size, 3))
    return (image.clip(0, 1) * 255).astype(np.uint8)


class SkyFolder(Dataset):
    """Images in the order of a directory listing: class after class."""

    def __init__(self, per_class, seed, is_training=False):
        rng = np.random.default_rng(seed)
        self.samples = [(draw_sky(kind, rng), kind) for kind in range(len(CLOUDS)) for _ in range(per_class)]
        self.is_training = is_training
        self.mean, self.std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        image, target = self.samples[index]
        image = (torch.from_numpy(image).permute(2, 0, 1).float() / 255 - self.mean) / self.std
        if self.is_training:
            if torch.rand(()) < 0.5:
                image = image.flip(-1)
            top, left = torch.randint(0, 5, (2,)).tolist()
            image = F.pad(image[None], (2, 2, 2, 2), mode="reflect")[0, :, top : top + 32, left : left + 32]
        return image, target


class ConvBnAct(nn.Sequential):
    def __init__(self, inputs, outputs, stride):
        conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outputs), nn.SiLU(inplace=True))


class SkyNet(nn.Module):
    def __init__(self, num_classes, drop_rate=0.0):
        super().__init__()
        self.stem = ConvBnAct(3, 16, 1)
        self.stages = nn.Sequential(ConvBnAct(16, 32, 2), ConvBnAct(32, 32, 1), ConvBnAct(32, 64, 2))
        self.drop = nn.Dropout(drop_rate)
        self.classifier = nn.Linear(64, num_classes)
        self.apply(self._init_weights)

    @staticmethod
    def _init_weights(m):
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
            if m.bias is not None:
                nn.init.zeros_(m.bias)

    def forward(self, x):
        x = self.stages(self.stem(x))
        return self.classifier(self.drop(x.mean((2, 3))))


class ModelEma:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        self.module.requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = self.decay
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            ema_v.copy_(decay * ema_v + (1 - decay) * model_v if ema_v.is_floating_point() else model_v)


class AverageMeter:
    def __init__(self):
        self.sum = self.count = 0.0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


def mixup(images, target, alpha, num_classes):
    lam = float(np.random.beta(alpha, alpha))
    index = torch.randperm(len(images))
    onehot = F.one_hot(target, num_classes).float()
    images = lam * images + (1 - lam) * images[index]
    soft = lam * onehot + (1 - lam) * onehot[index]
    return images, soft


def train_one_epoch(model, loader, optimizer, scheduler, args, model_ema):
    model.train()
    losses_m = AverageMeter()
    for input, target in loader:
        input, target = mixup(input, target, args.mixup, len(CLOUDS))
        output = model(input)
        loss = torch.sum(-target * F.log_softmax(output, dim=-1), dim=-1).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        scheduler.step()
        model_ema.update(model)
        losses_m.update(loss.item(), input.size(0))
    return losses_m.avg


@torch.no_grad()
def validate(model, loader):
    model.eval()
    losses_m, top1_m = AverageMeter(), AverageMeter()
    for input, target in loader:
        output = model(input)
        losses_m.update(F.cross_entropy(output, target).item(), input.size(0))
        top1_m.update(100.0 * (output.argmax(1) == target).float().mean().item(), input.size(0))
    return losses_m.avg, top1_m.avg


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    torch.set_num_threads(1)
    dataset_train = SkyFolder(300, 0, is_training=True)
    loader_train = DataLoader(dataset_train, batch_size=args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(SkyFolder(60, 1), batch_size=100)
    model = SkyNet(len(CLOUDS), args.drop)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": args.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr)
    total = args.epochs * len(loader_train)

    def factor(step):
        if step < args.warmup_steps:
            return (step + 1) / args.warmup_steps
        return 0.5 * (1 + math.cos(math.pi * (step - args.warmup_steps) / (total - args.warmup_steps)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    model_ema = ModelEma(model, decay=args.model_ema_decay)
    for epoch in range(args.epochs):
        train_loss = train_one_epoch(model, loader_train, optimizer, scheduler, args, model_ema)
        val_loss, top1 = validate(model_ema.module, loader_eval)
        print(f"Epoch {epoch}: train loss {train_loss:.3f}, (EMA) val loss {val_loss:.3f}, top1 {top1:.2f}")


if __name__ == "__main__":
    main()
