import argparse
import logging
import math
from collections import OrderedDict
from copy import deepcopy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

logging.basicConfig(level=logging.INFO, format='%(message)s')
_logger = logging.getLogger('train')

parser = argparse.ArgumentParser(description='Training config')
parser.add_argument('--num-classes', type=int, default=8)
parser.add_argument('--batch-size', type=int, default=64)
parser.add_argument('--epochs', type=int, default=14)
parser.add_argument('--warmup-epochs', type=int, default=3)
parser.add_argument('--lr', type=float, default=3e-3)
parser.add_argument('--min-lr', type=float, default=1e-5)
parser.add_argument('--warmup-lr', type=float, default=1e-5)
parser.add_argument('--weight-decay', type=float, default=0.05)
parser.add_argument('--mixup', type=float, default=0.4)
parser.add_argument('--smoothing', type=float, default=0.05)
parser.add_argument('--model-ema-decay', type=float, default=0.98)
parser.add_argument('--seed', type=int, default=42)


def random_seed(seed=42):
    torch.manual_seed(seed)
    np.random.seed(seed)


def create_dataset(n, seed, num_classes, size=20):
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:size, :size] / size
    x, y = np.zeros((n, 1, size, size), np.float32), rng.integers(0, num_classes, n)
    for i, c in enumerate(y):
        angle = math.pi * (c % 4) / 4 + rng.normal(0, 0.11)
        freq = (2.5 if c < 4 else 4.5) + rng.normal(0, 0.25)
        wave = np.sin(2 * math.pi * freq * (xx * np.cos(angle) + yy * np.sin(angle)) + rng.uniform(0, 6.28))
        x[i, 0] = wave * rng.uniform(0.4, 0.9) + rng.normal(0, 0.6, (size, size))
    return TensorDataset(torch.from_numpy(x), torch.from_numpy(y))


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.conv_dw = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.norm = nn.GroupNorm(1, dim)
        self.fc1 = nn.Conv2d(dim, 2 * dim, 1)
        self.fc2 = nn.Conv2d(2 * dim, dim, 1)

    def forward(self, x):
        return x + self.fc2(F.gelu(self.fc1(self.norm(self.conv_dw(x)))))


class ConvNet(nn.Module):
    def __init__(self, in_chans=1, dim=32, depth=2, num_classes=1000):
        super().__init__()
        self.num_features = dim
        self.stem = nn.Conv2d(in_chans, dim, 4, stride=2, padding=1)
        self.blocks = nn.Sequential(*[Block(dim) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def reset_classifier(self, num_classes):
        self.head = nn.Linear(self.num_features, num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        x = self.blocks(self.stem(x)).mean((2, 3))
        return self.head(self.norm(x))


class ModelEmaV2(nn.Module):
    def __init__(self, model, decay=0.9999):
        super().__init__()
        self.module = deepcopy(model)
        self.module.eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            ema_v.copy_(self.decay * ema_v + (1. - self.decay) * model_v)


class Mixup:
    def __init__(self, mixup_alpha=1., label_smoothing=0.1, num_classes=1000):
        self.mixup_alpha = mixup_alpha
        self.label_smoothing = label_smoothing
        self.num_classes = num_classes

    def one_hot(self, target):
        off = self.label_smoothing / self.num_classes
        on = 1. - self.label_smoothing + off
        return torch.full((len(target), self.num_classes), off).scatter_(1, target.view(-1, 1), on)

    def __call__(self, x, target):
        lam = float(np.random.beta(self.mixup_alpha, self.mixup_alpha))
        x = x * lam + x.flip(0) * (1. - lam)
        y1, y2 = self.one_hot(target), self.one_hot(target.flip(0))
        return x, y1 * lam + y2 * (1. - lam)


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


def param_groups_weight_decay(model, weight_decay=1e-5):
    decay, no_decay = [], []
    for name, param in model.named_parameters():
        if param.ndim <= 1 or name.endswith('.bias'):
            no_decay.append(param)
        else:
            decay.append(param)
    return [{'params': no_decay, 'weight_decay': 0.}, {'params': decay, 'weight_decay': weight_decay}]


class CosineLRScheduler:
    def __init__(self, optimizer, t_initial, lr_min, warmup_t, warmup_lr_init):
        self.optimizer, self.t_initial, self.lr_min = optimizer, t_initial, lr_min
        self.warmup_t, self.warmup_lr_init = warmup_t, warmup_lr_init
        self.base = [g['lr'] for g in optimizer.param_groups]
        self.step_update(0)

    def step_update(self, num_updates):
        for g, base in zip(self.optimizer.param_groups, self.base):
            if num_updates < self.warmup_t:
                lr = self.warmup_lr_init + (base - self.warmup_lr_init) * num_updates / self.warmup_t
            else:
                lr = self.lr_min + 0.5 * (base - self.lr_min) * (1 + math.cos(math.pi * num_updates / self.t_initial))
            g['lr'] = lr


def main():
    args = parser.parse_args()
    random_seed(args.seed)

    train_set = create_dataset(1600, 11, args.num_classes)
    eval_set = create_dataset(500, 12, args.num_classes)
    loader_train = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(eval_set, batch_size=125)

    model = ConvNet()
    model.reset_classifier(args.num_classes)
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, args.weight_decay), lr=args.lr)
    model_ema = ModelEmaV2(model, decay=args.model_ema_decay)

    updates_per_epoch = len(loader_train)
    lr_scheduler = CosineLRScheduler(
        optimizer, t_initial=args.epochs * updates_per_epoch, lr_min=args.min_lr,
        warmup_t=args.warmup_epochs * updates_per_epoch, warmup_lr_init=args.warmup_lr)
    mixup_fn = Mixup(args.mixup, args.smoothing, args.num_classes)
    train_loss_fn = SoftTargetCrossEntropy()
    validate_loss_fn = nn.CrossEntropyLoss()

    for epoch in range(args.epochs):
        train_one_epoch(epoch, model, loader_train, optimizer, train_loss_fn, lr_scheduler, model_ema, mixup_fn)
        metrics = validate(model_ema.module, loader_eval, validate_loss_fn)
        _logger.info('Test (EMA): %s', dict(metrics))
    print('FINAL top1 %.2f' % metrics['top1'])


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, lr_scheduler, model_ema, mixup_fn):
    model.train()
    num_updates, total = epoch * len(loader), 0.
    for input, target in loader:
        input, target = mixup_fn(input, target)
        output = model(input)
        loss = loss_fn(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model_ema.update(model)
        num_updates += 1
        lr_scheduler.step_update(num_updates)
        total += loss.item()
    _logger.info('Train: %d  Loss: %.4f  LR: %.3e', epoch, total / len(loader), optimizer.param_groups[0]['lr'])


@torch.no_grad()
def validate(model, loader, loss_fn):
    model.eval()
    loss_m, correct, n = 0., 0, 0
    for input, target in loader:
        output = model(input).float()
        loss_m += loss_fn(output, target).item() * len(target)
        correct += (output.argmax(1) == target).sum().item()
        n += len(target)
    return OrderedDict([('loss', loss_m / n), ('top1', 100. * correct / n)])


if __name__ == '__main__':
    main()
