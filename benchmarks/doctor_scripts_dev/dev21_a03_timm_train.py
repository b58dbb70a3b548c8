#!/usr/bin/env python3
"""Training script after timm's train.py: mixup, label smoothing, AdamW, warmup and cosine per update, EMA of weights."""
import argparse
import math
from copy import deepcopy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

parser = argparse.ArgumentParser(description='PyTorch ImageNet-like Training')
parser.add_argument('--num-classes', type=int, default=10)
parser.add_argument('-b', '--batch-size', type=int, default=32)
parser.add_argument('--epochs', type=int, default=16)
parser.add_argument('--lr', type=float, default=1.5e-3)
parser.add_argument('--weight-decay', type=float, default=0.02)
parser.add_argument('--warmup-epochs', type=int, default=4)
parser.add_argument('--clip-grad', type=float, default=5.0)
parser.add_argument('--mean', type=float, default=0.17)
parser.add_argument('--std', type=float, default=0.31)
parser.add_argument('--hflip', type=float, default=0.0, help='Horizontal flip training aug probability')
parser.add_argument('--crop-pad', type=int, default=1)
parser.add_argument('--mixup', type=float, default=0.2, help='mixup alpha, mixup enabled if > 0.')
parser.add_argument('--smoothing', type=float, default=0.1)
parser.add_argument('--model-ema-decay', type=float, default=0.98, help='decay factor of the average, per update')
parser.add_argument('--seed', type=int, default=42)


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class ResNet(nn.Module):
    def __init__(self, num_classes, widths=(16, 32, 64)):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
        self.layer1 = BasicBlock(widths[0], widths[1], 2)
        self.layer2 = BasicBlock(widths[1], widths[2], 2)
        self.fc = nn.Linear(widths[2], num_classes)

    def forward(self, x):
        x = self.layer2(self.layer1(self.stem(x)))
        return self.fc(x.mean((2, 3)))


class ModelEmaV2(nn.Module):
    def __init__(self, model, decay=0.9999):
        super().__init__()
        self.module = deepcopy(model)
        self.module.eval()
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = self.decay
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            ema_v.copy_(decay * ema_v + (1.0 - decay) * model_v)


def mixup_target(target, num_classes, lam, smoothing):
    off_value = smoothing / num_classes
    on_value = 1.0 - smoothing + off_value
    y1 = torch.full((len(target), num_classes), off_value).scatter_(1, target.view(-1, 1), on_value)
    y2 = y1.flip(0)
    return y1 * lam + y2 * (1.0 - lam)


class Mixup:
    def __init__(self, mixup_alpha, label_smoothing, num_classes):
        self.alpha, self.smoothing, self.num_classes = mixup_alpha, label_smoothing, num_classes

    def __call__(self, x, target):
        lam = float(np.random.beta(self.alpha, self.alpha)) if self.alpha > 0 else 1.0
        target = mixup_target(target, self.num_classes, lam, self.smoothing)
        x = x * lam + x.flip(0) * (1.0 - lam)
        return x, target


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


def create_transform(args, is_training):
    def transform(image):
        image = (image.float() / 255 - args.mean) / args.std
        if is_training:
            if torch.rand(()) < args.hflip:
                image = image.flip(-1)
            pad, size = args.crop_pad, image.shape[-1]
            top, left = torch.randint(0, 2 * pad + 1, (2,)).tolist()
            image = F.pad(image, (pad,) * 4, value=-args.mean / args.std)[:, top:top + size, left:left + size]
        return image
    return transform


def param_groups_weight_decay(model, weight_decay):
    decay, no_decay = [], []
    for name, param in model.named_parameters():
        if param.ndim <= 1 or name.endswith('.bias'):
            no_decay.append(param)
        else:
            decay.append(param)
    return [{'params': no_decay, 'weight_decay': 0.0}, {'params': decay, 'weight_decay': weight_decay}]


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, args, lr_scheduler, model_ema, mixup_fn):
    model.train()
    total, count = 0.0, 0
    for input, target in loader:
        input, target = mixup_fn(input, target)
        output = model(input)
        loss = loss_fn(output, target)

        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        optimizer.step()
        model_ema.update(model)
        lr_scheduler.step()

        total += loss.item() * input.size(0)
        count += input.size(0)
    print(f'Train: {epoch}  Loss: {total / count:.4f}  LR: {lr_scheduler.get_last_lr()[0]:.3e}')


@torch.no_grad()
def validate(model, loader, loss_fn):
    model.eval()
    loss, correct, count = 0.0, 0, 0
    for input, target in loader:
        output = model(input)
        loss += loss_fn(output, target).item() * target.size(0)
        correct += (output.argmax(1) == target).sum().item()
        count += target.size(0)
    return {'loss': loss / count, 'top1': 100.0 * correct / count}


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    torch.set_num_threads(1)

    model = ResNet(args.num_classes)
    print(f'Model created, param count: {sum(m.numel() for m in model.parameters())}')
    model_ema = ModelEmaV2(model, decay=args.model_ema_decay)
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, args.weight_decay), lr=args.lr)

    dataset_train = Digits(train=True, count=2400, transform=create_transform(args, is_training=True))
    dataset_eval = Digits(train=False, count=500, transform=create_transform(args, is_training=False))
    loader_train = DataLoader(dataset_train, batch_size=args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(dataset_eval, batch_size=100, shuffle=False)

    updates_per_epoch = len(loader_train)
    warmup_t, t_initial = args.warmup_epochs * updates_per_epoch, args.epochs * updates_per_epoch

    def lr_lambda(num_updates):
        if num_updates < warmup_t:
            return (num_updates + 1) / warmup_t
        return 0.5 * (1 + math.cos(math.pi * (num_updates - warmup_t) / (t_initial - warmup_t)))

    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda)
    mixup_fn = Mixup(args.mixup, args.smoothing, args.num_classes)
    train_loss_fn, validate_loss_fn = SoftTargetCrossEntropy(), nn.CrossEntropyLoss()

    best_metric, best_epoch = None, None
    for epoch in range(args.epochs):
        train_one_epoch(epoch, model, loader_train, optimizer, train_loss_fn, args, lr_scheduler, model_ema, mixup_fn)
        eval_metrics = validate(model_ema.module, loader_eval, validate_loss_fn)
        print(f"Test (EMA): {epoch}  Loss: {eval_metrics['loss']:.4f}  Acc@1: {eval_metrics['top1']:.2f}")
        if best_metric is None or eval_metrics['top1'] > best_metric:
            best_metric, best_epoch = eval_metrics['top1'], epoch
    print(f'*** Best metric: {best_metric:.2f} (epoch {best_epoch})')


if __name__ == '__main__':
    main()
