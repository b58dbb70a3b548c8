#!/usr/bin/env python3
""" Knowledge distillation script, in the manner of timm's train.py (EMA, warmup + cosine per update).
"""
import argparse
import copy
import logging
import math
import os
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import NAMES, Shapes

_logger = logging.getLogger('train')

parser = argparse.ArgumentParser(description='Distillation')
parser.add_argument('--teacher-width', type=int, default=24)
parser.add_argument('--student-width', type=int, default=8)
parser.add_argument('--epochs', type=int, default=10)
parser.add_argument('--warmup-epochs', type=int, default=1)
parser.add_argument('--batch-size', type=int, default=50)
parser.add_argument('--lr', type=float, default=0.1)
parser.add_argument('--weight-decay', type=float, default=5e-4)
parser.add_argument('--clip-grad', type=float, default=5.0)
parser.add_argument('--model-ema-decay', type=float, default=0.9)
parser.add_argument('--kd-alpha', type=float, default=0.7)
parser.add_argument('--kd-temp', type=float, default=3.0)
parser.add_argument('--seed', type=int, default=42)


class ConvNet(nn.Module):
    def __init__(self, width, num_classes):
        super().__init__()
        self.stem = self._block(3, width, 1)
        self.stages = nn.Sequential(self._block(width, 2 * width, 2), self._block(2 * width, 2 * width, 2))
        self.head = nn.Linear(2 * width, num_classes)

    @staticmethod
    def _block(i, o, stride):
        return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.SiLU())

    def forward_features(self, x):
        return self.stages(self.stem(x))

    def forward(self, x):
        x = self.forward_features(x)
        x = F.adaptive_max_pool2d(x, 1).flatten(1)
        return self.head(x)


class ModelEma(nn.Module):
    def __init__(self, model, decay):
        super().__init__()
        self.module = copy.deepcopy(model)
        self.module.eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.dtype.is_floating_point:
                ema_v.mul_(self.decay).add_(model_v, alpha=1. - self.decay)
            else:
                ema_v.copy_(model_v)


def soft_cross_entropy(student_logits, teacher_logits, temp):
    soft_target = F.softmax(teacher_logits / temp, dim=-1)
    log_prob = F.log_softmax(student_logits / temp, dim=-1)
    return -(soft_target * log_prob).sum(dim=-1).mean() * temp ** 2


def train_one_epoch(model, loader, optimizer, lr_scheduler, ema, args, teacher=None):
    model.train()
    total, seen = 0., 0
    for input, target in loader:
        output = model(input)
        loss = F.cross_entropy(output, target)
        if teacher is not None:
            with torch.no_grad():
                teacher_output = teacher(input)
            kd = soft_cross_entropy(output, teacher_output, args.kd_temp)
            loss = (1 - args.kd_alpha) * loss + args.kd_alpha * kd
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        optimizer.step()
        lr_scheduler.step()
        ema.update(model)
        total += loss.item() * input.size(0)
        seen += input.size(0)
    return total / seen


@torch.no_grad()
def validate(model, loader):
    model.eval()
    correct, seen = 0, 0
    for input, target in loader:
        correct += (model(input).argmax(dim=1) == target).sum().item()
        seen += target.size(0)
    return 100. * correct / seen


def fit(name, model, train_loader, eval_loader, args, teacher=None):
    optimizer = torch.optim.SGD(
        model.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=args.weight_decay)
    warmup = args.warmup_epochs * len(train_loader)
    updates = args.epochs * len(train_loader)

    def factor(t):
        if t < warmup:
            return (t + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (t - warmup) / (updates - warmup)))

    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    ema = ModelEma(model, args.model_ema_decay)
    for epoch in range(args.epochs):
        loss = train_one_epoch(model, train_loader, optimizer, lr_scheduler, ema, args, teacher)
        top1 = validate(ema.module, eval_loader)
        _logger.info('%s: epoch %d loss %.4f top1 (EMA) %.2f', name, epoch, loss, top1)
    return ema


def main():
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    def transform(img):
        if torch.rand(()) < 0.5:
            img = img.flip(-1)
        return (img - 0.5) / 0.2

    train_loader = DataLoader(Shapes(train=True, transform=transform), args.batch_size, shuffle=True, drop_last=True)
    eval_loader = DataLoader(Shapes(train=False, transform=lambda img: (img - 0.5) / 0.2), 2 * args.batch_size)

    with tempfile.TemporaryDirectory() as output_dir:
        path = os.path.join(output_dir, 'teacher.pth')
        ema = fit('teacher', ConvNet(args.teacher_width, len(NAMES)), train_loader, eval_loader, args)
        torch.save({'state_dict': ema.module.state_dict(), 'args': vars(args)}, path)

        teacher = ConvNet(args.teacher_width, len(NAMES))
        teacher.load_state_dict(torch.load(path)['state_dict'])
        teacher.eval().requires_grad_(False)

    student = ConvNet(args.student_width, len(NAMES))
    ema = fit('student', student, train_loader, eval_loader, args, teacher)
    _logger.info('*** student top1: %.2f', validate(ema.module, eval_loader))


if __name__ == '__main__':
    main()
