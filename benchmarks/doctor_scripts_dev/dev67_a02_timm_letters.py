#!/usr/bin/env python3
import argparse
import copy
import math
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch.utils.data import DataLoader, Dataset

parser = argparse.ArgumentParser(description='Letter Training')
parser.add_argument('-b', '--batch-size', type=int, default=16)
parser.add_argument('--grad-accum-steps', type=int, default=4)
parser.add_argument('--weight-decay', type=float, default=0.05)
parser.add_argument('--clip-grad', type=float, default=1.0)
parser.add_argument('--lr-base', type=float, default=6.4e-2)
parser.add_argument('--lr-base-size', type=int, default=256)
parser.add_argument('--epochs', type=int, default=6)
parser.add_argument('--warmup-epochs', type=int, default=1)
parser.add_argument('--mixup', type=float, default=0.2)
parser.add_argument('--smoothing', type=float, default=0.1)
parser.add_argument('--model-ema-decay', type=float, default=0.95)
parser.add_argument('--seed', type=int, default=42)

LETTERS = 'ABCDEFGHKLMNPRST'


class LetterDataset(Dataset):
    def __init__(self, n, seed, is_training, size=24, pad=2):
        self.rng = np.random.default_rng(seed)
        self.size, self.pad, self.is_training = size, pad, is_training
        self.labels = self.rng.integers(len(LETTERS), size=n)
        self.images = np.stack([self.render(LETTERS[k], size + 2 * pad) for k in self.labels])

    def render(self, letter, size):
        image = Image.new('L', (size, size), 0)
        font = ImageFont.load_default(int(self.rng.integers(15, 22)))
        xy = (size / 2 + self.rng.uniform(-2, 2), size / 2 + self.rng.uniform(-2, 2))
        ImageDraw.Draw(image).text(xy, letter, fill=int(self.rng.integers(130, 220)), font=font, anchor='mm')
        image = np.asarray(image.rotate(self.rng.uniform(-12, 12), resample=Image.BILINEAR), np.float32)
        return (image + self.rng.normal(20, 12, (size, size))).clip(0, 255).astype(np.uint8)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        top, left = torch.randint(0, 2 * self.pad + 1, (2,)).tolist() if self.is_training else (self.pad, self.pad)
        image = self.images[index][top:top + self.size, left:left + self.size]
        return (torch.tensor(image)[None].float() / 255. - 0.5) / 0.5, int(self.labels[index])


class Block(nn.Module):
    def __init__(self, dim, init_values=0.1):
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(dim)
        self.act = nn.GELU()
        self.conv2 = nn.Conv2d(dim, dim, 1)
        self.gamma = nn.Parameter(init_values * torch.ones(dim))

    def forward(self, x):
        y = self.conv2(self.act(self.norm(self.conv1(x))))
        return x + y * self.gamma.view(1, -1, 1, 1)


class LetterNet(nn.Module):
    def __init__(self, num_classes, dims=(24, 48), depths=(1, 2)):
        super().__init__()
        layers = [nn.Conv2d(1, dims[0], 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(dims[0])]
        layers += [Block(dims[0]) for _ in range(depths[0])]
        layers += [nn.Conv2d(dims[0], dims[1], 2, stride=2, bias=False), nn.BatchNorm2d(dims[1])]
        layers += [Block(dims[1]) for _ in range(depths[1])]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(dims[1], num_classes)
        self.apply(self._init_weights)

    def _init_weights(self, m):
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            nn.init.trunc_normal_(m.weight, std=0.05)
            if m.bias is not None:
                nn.init.zeros_(m.bias)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


def param_groups_weight_decay(model, weight_decay):
    decay, no_decay = [], []
    for name, param in model.named_parameters():
        if param.ndim <= 1 or name.endswith('.bias'):
            no_decay.append(param)
        else:
            decay.append(param)
    return [{'params': no_decay, 'weight_decay': 0.}, {'params': decay, 'weight_decay': weight_decay}]


class CosineLRScheduler:
    def __init__(self, optimizer, t_initial, warmup_t=0, lr_min=1e-5):
        self.optimizer, self.t_initial, self.warmup_t, self.lr_min = optimizer, t_initial, warmup_t, lr_min
        self.base_values = [group['lr'] for group in optimizer.param_groups]
        self.step_update(0)

    def _get_lr(self, t, base):
        if t < self.warmup_t:
            return self.lr_min + t * (base - self.lr_min) / self.warmup_t
        return self.lr_min + 0.5 * (base - self.lr_min) * (1 + math.cos(math.pi * t / self.t_initial))

    def step_update(self, num_updates):
        for group, base in zip(self.optimizer.param_groups, self.base_values):
            group['lr'] = self._get_lr(num_updates, base)


class ModelEmaV2:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            ema_v.copy_(self.decay * ema_v + (1. - self.decay) * model_v)


class Mixup:
    def __init__(self, mixup_alpha, label_smoothing, num_classes):
        self.alpha, self.smoothing, self.num_classes = mixup_alpha, label_smoothing, num_classes

    def one_hot(self, target):
        off_value = self.smoothing / self.num_classes
        return F.one_hot(target, self.num_classes) * (1. - self.smoothing) + off_value

    def __call__(self, x, target):
        lam = float(np.random.beta(self.alpha, self.alpha))
        x = x * lam + x.flip(0) * (1. - lam)
        return x, self.one_hot(target) * lam + self.one_hot(target.flip(0)) * (1. - lam)


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, args, lr_scheduler, model_ema, mixup_fn):
    model.train()
    accum_steps = args.grad_accum_steps
    updates_per_epoch = len(loader) // accum_steps
    num_updates = epoch * updates_per_epoch
    total_loss = 0.
    optimizer.zero_grad()
    for batch_idx, (input, target) in enumerate(loader):
        input, target = mixup_fn(input, target)
        loss = loss_fn(model(input), target) / accum_steps
        loss.backward()
        total_loss += loss.item() * accum_steps
        if (batch_idx + 1) % accum_steps != 0:
            continue
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        optimizer.step()
        optimizer.zero_grad()
        model_ema.update(model)
        num_updates += 1
        lr_scheduler.step_update(num_updates)
    print(f'Train: {epoch} loss {total_loss / len(loader):.4f} lr {optimizer.param_groups[0]["lr"]:.2e}')


@torch.no_grad()
def validate(model, loader, log_suffix=''):
    model.eval()
    correct = loss = 0.
    for input, target in loader:
        output = model(input)
        loss += F.cross_entropy(output, target, reduction='sum').item()
        correct += (output.argmax(dim=1) == target).sum().item()
    print(f'Test{log_suffix}: loss {loss / len(loader.dataset):.4f} Acc@1 {100. * correct / len(loader.dataset):.2f}')


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    loader_train = DataLoader(LetterDataset(2560, args.seed, True), args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(LetterDataset(1000, args.seed + 1, False), 250)
    model = LetterNet(num_classes=len(LETTERS))
    global_batch_size = args.batch_size * args.grad_accum_steps
    lr = args.lr_base * global_batch_size / args.lr_base_size
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, args.weight_decay), lr=lr)
    model_ema = ModelEmaV2(model, decay=args.model_ema_decay)
    updates_per_epoch = len(loader_train) // args.grad_accum_steps
    lr_scheduler = CosineLRScheduler(optimizer, t_initial=args.epochs * updates_per_epoch,
                                     warmup_t=args.warmup_epochs * updates_per_epoch)
    mixup_fn, loss_fn = Mixup(args.mixup, args.smoothing, len(LETTERS)), SoftTargetCrossEntropy()
    for epoch in range(args.epochs):
        train_one_epoch(epoch, model, loader_train, optimizer, loss_fn, args, lr_scheduler, model_ema, mixup_fn)
        validate(model, loader_eval)
        validate(model_ema.module, loader_eval, log_suffix=' (EMA)')


if __name__ == '__main__':
    main()
