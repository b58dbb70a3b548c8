#!/usr/bin/env python3
""" Single-object localization

Box regression with GIoU, mirrored images *and* boxes, warm-up + cosine per update, EMA weights for evaluation.
"""
import argparse
import logging
import math
from copy import deepcopy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

_logger = logging.getLogger('train')

parser = argparse.ArgumentParser(description='Box training')
parser.add_argument('-b', '--batch-size', type=int, default=30)
parser.add_argument('--epochs', type=int, default=14)
parser.add_argument('--lr', type=float, default=2e-3)
parser.add_argument('--weight-decay', type=float, default=0.02)
parser.add_argument('--warmup-updates', type=int, default=30)
parser.add_argument('--model-ema-decay', type=float, default=0.95)
parser.add_argument('--hflip', type=float, default=0.5)
parser.add_argument('--seed', type=int, default=42)


class BoxDataset(Dataset):
    def __init__(self, train, hflip=0.):
        self.shapes = Shapes(train=train, size=24)
        self.hflip = hflip

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image, box = self.shapes.images[index], self.shapes.boxes[index]
        if self.hflip and torch.rand(()) < self.hflip:
            image = image.flip(-1)
            left, top, right, bottom = box.unbind()
            box = torch.stack([1 - right, top, 1 - left, bottom])
        return (image - 0.5) / 0.2, box


class ConvNormAct(nn.Sequential):
    def __init__(self, in_chs, out_chs, stride):
        super().__init__(
            nn.Conv2d(in_chs, out_chs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(out_chs),
            nn.SiLU(),
        )


class BoxNet(nn.Module):
    """ Keeps the 3x3 map, since *where* is the question """

    def __init__(self, chs=(24, 48, 64)):
        super().__init__()
        self.stem = ConvNormAct(3, chs[0], 2)
        self.stages = nn.Sequential(ConvNormAct(chs[0], chs[1], 2), ConvNormAct(chs[1], chs[2], 2))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(chs[2] * 9, 64), nn.SiLU(), nn.Linear(64, 4))

    def forward(self, x):
        center, side = self.head(self.stages(self.stem(x))).sigmoid().split(2, dim=1)
        return torch.cat([center - side / 2, center + side / 2], dim=1)


def area(box):
    return (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])


def iou_and_giou(a, b):
    """ Row by row, of boxes (left, top, right, bottom) """
    lt, rb = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    inter = (rb - lt).clamp(min=0).prod(dim=1)
    union = area(a) + area(b) - inter
    hull = torch.minimum(a[:, :2], b[:, :2]), torch.maximum(a[:, 2:], b[:, 2:])
    hull = (hull[1] - hull[0]).prod(dim=1)
    iou = inter / union
    return iou, iou - (hull - union) / hull


class ModelEma:
    def __init__(self, model, decay):
        self.module = deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.dtype.is_floating_point:
                ema_v.lerp_(model_v, 1. - self.decay)
            else:
                ema_v.copy_(model_v)


def train_one_epoch(model, loader, optimizer, scheduler, model_ema):
    model.train()
    running = 0.
    for images, boxes in loader:
        output = model(images)
        _, giou = iou_and_giou(output, boxes)
        loss = (1 - giou).mean() + F.smooth_l1_loss(output, boxes, beta=0.1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        model_ema.update(model)
        running += loss.item() * len(images)
    return running / len(loader.dataset)


@torch.no_grad()
def validate(model, loader):
    ious = torch.cat([iou_and_giou(model(images), boxes)[0] for images, boxes in loader])
    return {'miou': ious.mean().item(), 'ap50': (ious > 0.5).float().mean().item()}


def main():
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    torch.manual_seed(args.seed)

    loader_train = DataLoader(BoxDataset(True, args.hflip), args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(BoxDataset(False), 120)

    model = BoxNet()
    model_ema = ModelEma(model, args.model_ema_decay)
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{'params': decay}, {'params': no_decay, 'weight_decay': 0.}], lr=args.lr, weight_decay=args.weight_decay)
    updates = args.epochs * len(loader_train)

    def factor(update):
        if update < args.warmup_updates:
            return (update + 1) / args.warmup_updates
        done = (update - args.warmup_updates) / (updates - args.warmup_updates)
        return 0.5 * (1 + math.cos(math.pi * done))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    best_metric = 0.
    for epoch in range(args.epochs):
        train_loss = train_one_epoch(model, loader_train, optimizer, scheduler, model_ema)
        metrics = validate(model_ema.module, loader_eval)
        best_metric = max(best_metric, metrics['miou'])
        _logger.info(f'Train: {epoch} loss {train_loss:.4f}  EMA mIoU {metrics["miou"]:.3f} AP50 {metrics["ap50"]:.3f}')
    _logger.info(f'*** Best metric: {best_metric:.3f}')


if __name__ == '__main__':
    main()
