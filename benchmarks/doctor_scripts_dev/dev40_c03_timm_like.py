""" Digits training script, in the manner of timm's train.py: create_dataset, create_model, train_one_epoch, validate. """
import logging
import math
from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset

import toydata

_logger = logging.getLogger('train')


@dataclass
class Args:
    num_classes: int = 10
    batch_size: int = 48
    validation_batch_size: int = 100
    epochs: int = 10
    lr: float = 3e-3
    min_lr: float = 1e-4
    warmup_updates: int = 20
    weight_decay: float = 0.02
    smoothing: float = 0.1
    seed: int = 42


class ConvNormAct(nn.Sequential):
    def __init__(self, in_chs, out_chs, kernel_size=3, stride=1, groups=1):
        super().__init__(
            nn.Conv2d(in_chs, out_chs, kernel_size, stride, kernel_size // 2, groups=groups, bias=False),
            nn.BatchNorm2d(out_chs),
            nn.GELU(),
        )


class TinyNet(nn.Module):
    def __init__(self, num_classes, chs=(16, 32, 64), drop_rate=0.1):
        super().__init__()
        self.stem = ConvNormAct(1, chs[0])
        stages, prev = [], chs[0]
        for out_chs in chs[1:]:
            stages += [ConvNormAct(prev, out_chs, stride=2), ConvNormAct(out_chs, out_chs)]
            prev = out_chs
        self.stages = nn.Sequential(*stages)
        self.drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(prev * 4 * 4, num_classes)

    def forward_features(self, x):
        return self.stages(self.stem(x))

    def forward(self, x):
        return self.head(self.drop(self.forward_features(x).flatten(1)))


def create_transform(mean, std, is_training):
    def transform(img):
        img = (img.float() / 255 - mean) / std
        if is_training:  # the glyph has at least one pixel of margin, so nothing wraps around
            dy, dx = torch.randint(-1, 2, (2,)).tolist()
            img = torch.roll(img, (dy, dx), dims=(1, 2))
        return img
    return transform


def create_datasets(args):
    raw = toydata.Digits(train=True, count=1500)
    order = torch.randperm(1500, generator=torch.Generator().manual_seed(args.seed)).tolist()
    train_idx, val_idx = order[:1200], order[1200:]
    pixels = raw.data[train_idx].float() / 255
    mean, std = pixels.mean().item(), pixels.std().item()
    dataset_train = Subset(toydata.Digits(count=1500, transform=create_transform(mean, std, True)), train_idx)
    dataset_eval = Subset(toydata.Digits(count=1500, transform=create_transform(mean, std, False)), val_idx)
    dataset_test = toydata.Digits(train=False, transform=create_transform(mean, std, False))
    return dataset_train, dataset_eval, dataset_test


def param_groups_weight_decay(model, weight_decay):
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    return [{'params': no_decay, 'weight_decay': 0.}, {'params': decay, 'weight_decay': weight_decay}]


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, lr_scheduler):
    model.train()
    total, seen = 0., 0
    for input, target in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(input), target)
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        total += loss.detach() * len(input)
        seen += len(input)
    return OrderedDict(loss=float(total / seen))


@torch.no_grad()
def validate(model, loader):
    model.eval()
    loss, top1, seen = 0., 0, 0
    for input, target in loader:
        output = model(input)
        loss += F.cross_entropy(output, target, reduction='sum').item()
        top1 += (output.argmax(dim=1) == target).sum().item()
        seen += len(target)
    return OrderedDict(loss=loss / seen, top1=100. * top1 / seen)


def main():
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    args = Args()
    torch.manual_seed(args.seed)

    dataset_train, dataset_eval, dataset_test = create_datasets(args)
    loader_train = DataLoader(dataset_train, batch_size=args.batch_size, shuffle=True)
    # each epoch is judged on half of the validation images, the end on all of them
    loader_probe = DataLoader(Subset(dataset_eval, range(150)), batch_size=args.validation_batch_size)
    loader_eval = DataLoader(dataset_eval, batch_size=args.validation_batch_size)
    loader_test = DataLoader(dataset_test, batch_size=args.validation_batch_size)

    model = TinyNet(args.num_classes)
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, args.weight_decay), lr=args.lr)
    updates = args.epochs * len(loader_train)

    def lr_factor(update):
        if update < args.warmup_updates:
            return (update + 1) / args.warmup_updates
        progress = (update - args.warmup_updates) / max(1, updates - args.warmup_updates)
        floor = args.min_lr / args.lr
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_factor)
    train_loss_fn = nn.CrossEntropyLoss(label_smoothing=args.smoothing)

    for epoch in range(args.epochs):
        train_metrics = train_one_epoch(epoch, model, loader_train, optimizer, train_loss_fn, lr_scheduler)
        eval_metrics = validate(model, loader_probe)
        _logger.info('epoch %d: train loss %.4f, probe loss %.4f, probe top1 %.1f',
                     epoch, train_metrics['loss'], eval_metrics['loss'], eval_metrics['top1'])
    for name, loader in (('eval', loader_eval), ('test', loader_test)):
        metrics = validate(model, loader)
        _logger.info('%s: loss %.4f, top1 %.1f', name, metrics['loss'], metrics['top1'])


if __name__ == '__main__':
    main()
