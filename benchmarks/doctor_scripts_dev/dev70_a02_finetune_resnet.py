#!/usr/bin/env python3
""" Fine-tune a small residual network on a few labelled digits (AdamW, layer-wise rates, EMA, cosine). """
import argparse
import copy
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

parser = argparse.ArgumentParser(description='Fine-tuning')
parser.add_argument('--epochs', type=int, default=30)
parser.add_argument('-b', '--batch-size', type=int, default=32)
parser.add_argument('--lr', type=float, default=5e-3)
parser.add_argument('--backbone-scale', type=float, default=0.1)
parser.add_argument('--weight-decay', type=float, default=0.05)
parser.add_argument('--warmup-epochs', type=int, default=2)
parser.add_argument('--smoothing', type=float, default=0.1)
parser.add_argument('--clip-grad', type=float, default=2.0)
parser.add_argument('--model-ema-decay', type=float, default=0.96)
parser.add_argument('--seed', type=int, default=42)


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = nn.Identity() if stride == 1 else nn.Sequential(
            nn.Conv2d(inplanes, planes, 1, stride=stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        shortcut = self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet(nn.Module):
    def __init__(self, num_classes, width=24):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.layer1 = BasicBlock(width, width)
        self.layer2 = BasicBlock(width, width * 2, stride=2)
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes):
        self.fc = nn.Linear(self.layer2.bn2.num_features, num_classes)

    def forward(self, x):
        x = self.layer2(self.layer1(self.stem(x)))
        return self.fc(x.mean((2, 3)))


class ModelEma:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.dtype.is_floating_point:
                ema_v.lerp_(model_v, 1. - self.decay)
            else:
                ema_v.copy_(model_v)


class CosineSchedule:
    def __init__(self, optimizer, total, warmup, base_lr, min_lr=1e-5):
        self.optimizer, self.total, self.warmup = optimizer, total, warmup
        self.base_lr, self.min_lr = base_lr, min_lr
        self.step_update(0)

    def step_update(self, num_updates):
        if num_updates < self.warmup:
            lr = self.base_lr * (num_updates + 1) / self.warmup
        else:
            t = min((num_updates - self.warmup) / (self.total - self.warmup), 1.)
            lr = self.min_lr + 0.5 * (self.base_lr - self.min_lr) * (1 + math.cos(math.pi * t))
        for group in self.optimizer.param_groups:
            group['lr'] = lr * group['lr_scale']


def create_loader(images, labels, data_config, batch_size, is_training=False):
    order = torch.randperm(len(labels)) if is_training else torch.arange(len(labels))
    for idx in order.split(batch_size):
        x = (images[idx] - data_config['mean']) / data_config['std']
        if is_training:
            dy, dx = torch.randint(0, 3, (2,)).tolist()
            x = F.pad(x, (1, 1, 1, 1), mode='replicate')[:, :, dy:dy + 8, dx:dx + 8]
        yield x, labels[idx]


def param_groups(model, weight_decay, backbone_scale):
    groups = {}
    for name, p in model.named_parameters():
        wd = 0. if p.ndim <= 1 else weight_decay
        scale = 1. if name.startswith('fc.') else backbone_scale
        groups.setdefault((wd, scale), {'params': [], 'weight_decay': wd, 'lr_scale': scale})
        groups[(wd, scale)]['params'].append(p)
    return list(groups.values())


def train_one_epoch(num_updates, model, loader, optimizer, loss_fn, args, lr_scheduler, model_ema=None):
    model.train()
    for input, target in loader:
        loss = loss_fn(model(input), target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        optimizer.step()
        if model_ema is not None:
            model_ema.update(model)
        num_updates += 1
        lr_scheduler.step_update(num_updates)
    return num_updates, loss.item()


@torch.no_grad()
def validate(model, loader):
    loss, correct, count = 0., 0, 0
    model.eval()
    for input, target in loader:
        output = model(input)
        loss += F.cross_entropy(output, target, reduction='sum').item()
        correct += (output.argmax(1) == target).sum().item()
        count += target.size(0)
    return loss / count, 100. * correct / count


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    digits = load_digits()
    images, labels = torch.tensor(digits.images).float().unsqueeze(1), torch.tensor(digits.target)
    pre_x, pre_y = images[labels < 5], labels[labels < 5]
    data_config = {'mean': pre_x.mean(), 'std': pre_x.std()}

    model = ResNet(num_classes=5)
    optimizer = torch.optim.AdamW(param_groups(model, args.weight_decay, 1.0), lr=3e-3)
    num_updates, epoch_len = 0, math.ceil(len(pre_y) / 64)
    lr_scheduler = CosineSchedule(optimizer, 10 * epoch_len, epoch_len, 3e-3)
    for epoch in range(10):
        loader = create_loader(pre_x, pre_y, data_config, 64, is_training=True)
        num_updates, loss = train_one_epoch(
            num_updates, model, loader, optimizer, nn.CrossEntropyLoss(), args, lr_scheduler)
    print(f'Pretrained for {num_updates} updates, loss {loss:.4f}')

    x, y = images[labels >= 5], labels[labels >= 5] - 5
    train_idx, eval_idx, test_idx = torch.randperm(len(y)).split([256, 200, len(y) - 456])
    model.reset_classifier(5)
    optimizer = torch.optim.AdamW(param_groups(model, args.weight_decay, args.backbone_scale), lr=args.lr)
    model_ema = ModelEma(model, args.model_ema_decay)
    num_updates, epoch_len = 0, math.ceil(len(train_idx) / args.batch_size)
    lr_scheduler = CosineSchedule(optimizer, args.epochs * epoch_len, args.warmup_epochs * epoch_len, args.lr)
    loss_fn = nn.CrossEntropyLoss(label_smoothing=args.smoothing)

    best_top1, best_state = -1., None
    for epoch in range(args.epochs):
        loader = create_loader(x[train_idx], y[train_idx], data_config, args.batch_size, is_training=True)
        num_updates, train_loss = train_one_epoch(
            num_updates, model, loader, optimizer, loss_fn, args, lr_scheduler, model_ema)
        _, top1 = validate(model, create_loader(x[eval_idx], y[eval_idx], data_config, 128))
        ema_loss, ema_top1 = validate(model_ema.module, create_loader(x[eval_idx], y[eval_idx], data_config, 128))
        if ema_top1 > best_top1:
            best_top1, best_state = ema_top1, copy.deepcopy(model_ema.module.state_dict())
        print(f'Train: {epoch} loss: {train_loss:.4f}  top1: {top1:.2f}  '
              f'ema loss: {ema_loss:.4f}  ema top1: {ema_top1:.2f}')

    model.load_state_dict(best_state)
    _, top1 = validate(model, create_loader(x[test_idx], y[test_idx], data_config, 128))
    print(f'*** Best eval top1: {best_top1:.2f}, test top1: {top1:.2f}')


if __name__ == '__main__':
    main()
