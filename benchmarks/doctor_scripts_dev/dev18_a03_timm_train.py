"""Small training script in the manner of timm: mixup, label smoothing, EMA of the weights, warmup and cosine."""
import argparse
import copy
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

parser = argparse.ArgumentParser(description='Training')
parser.add_argument('--batch-size', type=int, default=64)
parser.add_argument('--epochs', type=int, default=12)
parser.add_argument('--warmup-epochs', type=int, default=1)
parser.add_argument('--lr', type=float, default=0.1)
parser.add_argument('--min-lr', type=float, default=1e-3)
parser.add_argument('--momentum', type=float, default=0.9)
parser.add_argument('--weight-decay', type=float, default=1e-4)
parser.add_argument('--clip-grad', type=float, default=5.0)
parser.add_argument('--mixup', type=float, default=0.2)
parser.add_argument('--smoothing', type=float, default=0.1)
parser.add_argument('--model-ema-decay', type=float, default=0.98)
parser.add_argument('--seed', type=int, default=42)


class Gratings(Dataset):
    """Stripes of six orientations, of random period, phase, contrast and tint."""

    def __init__(self, count, seed, img_size, is_training):
        g = torch.Generator().manual_seed(seed)
        full = img_size + 4
        self.labels = torch.randint(0, 6, (count,), generator=g)
        angle = self.labels * math.pi / 6 + 0.08 * torch.randn(count, generator=g)
        period = 4 + 4 * torch.rand(count, generator=g)
        phase = 2 * math.pi * torch.rand(count, generator=g)
        contrast = 0.5 + 0.5 * torch.rand(count, 3, 1, 1, generator=g)
        y, x = torch.meshgrid(torch.arange(full), torch.arange(full), indexing='ij')
        along = x * angle.cos()[:, None, None] + y * angle.sin()[:, None, None]
        waves = torch.sin(2 * math.pi * along / period[:, None, None] + phase[:, None, None])
        self.images = contrast * waves[:, None] + 0.5 * torch.randn(count, 3, full, full, generator=g)
        self.img_size, self.is_training = img_size, is_training

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image, size = self.images[index], self.img_size
        top, left = torch.randint(0, 5, (2,)).tolist() if self.is_training else (2, 2)
        image = image[:, top:top + size, left:left + size].clone()
        if self.is_training:
            if torch.rand(()) < 0.25:  # random erasing
                top, left = torch.randint(0, size - 5, (2,)).tolist()
                image[:, top:top + 5, left:left + 5] = 0
        return image, self.labels[index]


def conv_bn_act(cin, cout, stride=1):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


def create_model(num_classes, drop_rate=0.1):
    return nn.Sequential(conv_bn_act(3, 16), conv_bn_act(16, 32, 2), conv_bn_act(32, 32), conv_bn_act(32, 64, 2),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(drop_rate), nn.Linear(64, num_classes))


class Mixup:
    def __init__(self, alpha, smoothing, num_classes):
        self.alpha, self.smoothing, self.num_classes = alpha, smoothing, num_classes

    def __call__(self, x, target):
        lam = np.random.beta(self.alpha, self.alpha)
        perm = torch.randperm(x.size(0))
        y = F.one_hot(target, self.num_classes).float() * (1 - self.smoothing) + self.smoothing / self.num_classes
        x = lam * x + (1 - lam) * x[perm]
        y = lam * y + (1 - lam) * y[perm]
        return x, y


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


class ModelEma(nn.Module):
    def __init__(self, model, decay):
        super().__init__()
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.dtype.is_floating_point:
                ema_v.copy_(self.decay * ema_v + (1.0 - self.decay) * model_v)
            else:
                ema_v.copy_(model_v)


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, args, lr_scheduler, mixup_fn, model_ema):
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
        total, count = total + loss.item() * len(input), count + len(input)
    print(f'Train: {epoch}  loss: {total / count:.4f}  lr: {optimizer.param_groups[0]["lr"]:.5f}')


@torch.no_grad()
def validate(model, loader, loss_fn, log_suffix=''):
    model.eval()
    loss, correct, count = 0.0, 0, 0
    for input, target in loader:
        output = model(input)
        loss += loss_fn(output, target).item() * len(input)
        correct += (output.argmax(dim=1) == target).sum().item()
        count += len(input)
    print(f'Test{log_suffix}: loss: {loss / count:.4f}  acc@1: {100 * correct / count:.2f}')
    return 100 * correct / count


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)

    loader_train = DataLoader(Gratings(1600, 0, 16, True), args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(Gratings(500, 1, 16, False), 128)

    model = create_model(6)
    model_ema = ModelEma(model, decay=args.model_ema_decay)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=args.momentum,
                                weight_decay=args.weight_decay, nesterov=True)
    updates, warmup = args.epochs * len(loader_train), args.warmup_epochs * len(loader_train)

    def factor(step):
        if step < warmup:
            return (step + 1) / warmup
        low = args.min_lr / args.lr
        return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (updates - warmup)))

    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    mixup_fn = Mixup(args.mixup, args.smoothing, 6)
    train_loss_fn, validate_loss_fn = SoftTargetCrossEntropy(), nn.CrossEntropyLoss()

    for epoch in range(args.epochs):
        train_one_epoch(epoch, model, loader_train, optimizer, train_loss_fn, args, lr_scheduler, mixup_fn, model_ema)
        validate(model, loader_eval, validate_loss_fn)
        ema_metric = validate(model_ema.module, loader_eval, validate_loss_fn, log_suffix=' (EMA)')
    print(f'*** Final metric (EMA): {ema_metric:.2f}')


if __name__ == '__main__':
    main()
