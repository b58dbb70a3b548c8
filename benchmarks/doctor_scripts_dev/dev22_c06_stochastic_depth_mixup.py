"""A small ConvNeXt on digits: stochastic depth, layer scale, mixup in the collate function, averaged weights."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, default_collate

from toydata import Digits

EPOCHS = 26
BATCH = 64
LR = 2e-3


class MixupCollate:
    """Mixes every batch with itself in another order; targets become shares of classes."""

    def __init__(self, num_classes, alpha):
        self.num_classes, self.alpha = num_classes, alpha

    def __call__(self, samples):
        images, labels = default_collate(samples)
        targets = F.one_hot(labels, self.num_classes).float()
        share = float(np.random.beta(self.alpha, self.alpha))
        order = torch.randperm(len(images))
        return share * images + (1 - share) * images[order], share * targets + (1 - share) * targets[order]


class DropPath(nn.Module):
    """Leaves out a whole branch for some samples of a batch, and makes up for it."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        mask = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(keep)
        return x * mask / keep


class Block(nn.Module):
    def __init__(self, width, drop_rate, expansion=3, scale=0.1):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = nn.GroupNorm(1, width)
        self.expand = nn.Conv2d(width, expansion * width, 1)
        self.project = nn.Conv2d(expansion * width, width, 1)
        self.gamma = nn.Parameter(scale * torch.ones(width, 1, 1))
        self.drop_path = DropPath(drop_rate)

    def forward(self, x):
        branch = self.norm(self.depthwise(x))
        branch = self.project(F.gelu(self.expand(branch)))
        return x + self.drop_path(self.gamma * branch)


class TinyConvNeXt(nn.Module):
    def __init__(self, num_classes=10, widths=(24, 48), depths=(2, 2), drop_rate=0.15):
        super().__init__()
        rates = torch.linspace(0, drop_rate, sum(depths)).tolist()
        layers, channels = [], 1
        for width, depth in zip(widths, depths):
            if layers:
                layers.append(nn.GroupNorm(1, channels))
            layers += [nn.Conv2d(channels, width, 2, stride=2), nn.GroupNorm(1, width)]
            layers += [Block(width, rates.pop(0)) for _ in range(depth)]
            channels = width
        self.body = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, num_classes)
        self.apply(self.initialize)

    @staticmethod
    def initialize(module):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)

    def forward(self, x):
        return self.head(self.norm(self.body(x).mean((-2, -1))))


def parameter_groups(model, weight_decay):
    decayed, plain = [], []
    for name, parameter in model.named_parameters():
        (plain if parameter.ndim == 1 or name.endswith("gamma") else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def evaluate(model, loader):
    model.eval()
    right = count = 0
    with torch.no_grad():
        for images, labels in loader:
            right += (model(images).argmax(1) == labels).sum().item()
            count += len(labels)
    return right / count


def main():
    np.random.seed(5)
    torch.manual_seed(5)
    train_set, valid_set = Digits(train=True, count=2400), Digits(train=False, count=400)
    mean, std = train_set.data.float().mean().item(), train_set.data.float().std().item()
    train_set.transform = valid_set.transform = lambda image: (image.float() - mean) / std
    train_loader = DataLoader(
        train_set, BATCH, shuffle=True, drop_last=True, collate_fn=MixupCollate(num_classes=10, alpha=0.2)
    )
    valid_loader = DataLoader(valid_set, 100)

    model = TinyConvNeXt()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.98))
    criterion = nn.CrossEntropyLoss(label_smoothing=0.02)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.05), lr=LR)
    warmup, steps = 2 * len(train_loader), EPOCHS * len(train_loader)
    scheduler = SequentialLR(
        optimizer,
        [
            LinearLR(optimizer, start_factor=0.05, total_iters=warmup),
            CosineAnnealingLR(optimizer, T_max=steps - warmup, eta_min=1e-5),
        ],
        milestones=[warmup],
    )

    for epoch in range(1, EPOCHS + 1):
        model.train()
        losses = []
        for images, targets in train_loader:
            loss = criterion(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            average.update_parameters(model)
            losses.append(loss.detach())
        print(
            f"epoch {epoch:2d} | mixed loss {torch.stack(losses).mean():.4f} | accuracy {evaluate(model, valid_loader):.4f} "
            f"| averaged weights {evaluate(average, valid_loader):.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
