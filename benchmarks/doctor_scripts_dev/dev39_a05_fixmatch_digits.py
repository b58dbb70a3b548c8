"""FixMatch (Sohn et al., 2020) on digits, ten labels a class."""

import copy
import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset

from toydata import Digits


@dataclass
class Config:
    seed: int = 5
    num_pool: int = 1300
    num_val: int = 200
    per_class: int = 10
    batch_size: int = 32
    mu: int = 2
    steps: int = 320
    eval_every: int = 40
    lr: float = 0.06
    weight_decay: float = 5e-4
    threshold: float = 0.9
    lambda_u: float = 1.0
    ema_decay: float = 0.97
    noise: float = 6.0  # gray levels of 255


cfg = Config()


def shift(image, limit):
    size = image.shape[-1]
    top, left = torch.randint(0, 2 * limit + 1, (2,)).tolist()
    return F.pad(image, (limit,) * 4)[:, top : top + size, left : left + size]


def plain_view(image):
    return (image.float() / 255 - 0.17) / 0.31


def weak_view(image):
    return plain_view(shift(image.float() + cfg.noise * torch.randn(image.shape), 1))


def strong_view(image):
    image = shift(image.float(), 2) * (0.6 + 0.6 * torch.rand(()))
    top, left = torch.randint(0, image.shape[-1] - 3, (2,)).tolist()
    image[:, top : top + 4, left : left + 4] = 0
    return plain_view(image + 25 * torch.randn(image.shape))


def two_views(image):
    return weak_view(image), strong_view(image)


class ConvNet(nn.Module):
    def __init__(self, num_classes=10, widths=(16, 32, 64)):
        super().__init__()
        layers, channels = [], 1
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.LeakyReLU(0.1)]
            if width != widths[-1]:
                layers.append(nn.MaxPool2d(2))
            channels = width
        self.trunk = nn.Sequential(*layers)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x):
        return self.fc(self.trunk(x).mean(dim=(2, 3)))


class ModelEMA:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for averaged, current in zip(self.module.parameters(), model.parameters()):
            averaged.mul_(self.decay).add_(current, alpha=1 - self.decay)
        for averaged, current in zip(self.module.buffers(), model.buffers()):
            averaged.copy_(current)


def split(targets):
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(cfg.seed))
    idx_val, rest = order[: cfg.num_val], order[cfg.num_val :]
    idx_labeled = torch.cat([rest[targets[rest] == c][: cfg.per_class] for c in range(10)])
    idx_unlabeled = rest[~torch.isin(rest, idx_labeled)]
    return idx_labeled.tolist(), idx_unlabeled.tolist(), idx_val.tolist()


def cycle(loader):
    while True:
        yield from loader


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    hits = sum((model(images).argmax(dim=1) == labels).sum().item() for images, labels in loader)
    return hits / len(loader.dataset)


def main():
    torch.manual_seed(cfg.seed)
    labeled, unlabeled, plain = (Digits(count=cfg.num_pool, transform=t) for t in (weak_view, two_views, plain_view))
    idx_labeled, idx_unlabeled, idx_val = split(plain.targets)
    labeled_loader = DataLoader(Subset(labeled, idx_labeled), cfg.batch_size, shuffle=True, drop_last=True)
    unlabeled_loader = DataLoader(Subset(unlabeled, idx_unlabeled), cfg.mu * cfg.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(Subset(plain, idx_val), batch_size=100)
    test_loader = DataLoader(Digits(train=False, transform=plain_view), batch_size=100)

    model = ConvNet()
    ema = ModelEMA(model, cfg.ema_decay)
    optimizer = torch.optim.SGD(model.parameters(), cfg.lr, momentum=0.9, nesterov=True, weight_decay=cfg.weight_decay)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: math.cos(7 * math.pi * i / (16 * cfg.steps)))

    batches_x, batches_u = cycle(labeled_loader), cycle(unlabeled_loader)
    best_val, best_state = 0.0, copy.deepcopy(ema.module.state_dict())
    for step in range(1, cfg.steps + 1):
        model.train()
        x, y = next(batches_x)
        (u_weak, u_strong), _ = next(batches_u)

        logits = model(torch.cat([x, u_weak, u_strong]))
        logits_x, logits_u = logits[: len(x)], logits[len(x) :]
        logits_weak, logits_strong = logits_u.chunk(2)
        loss_x = F.cross_entropy(logits_x, y)
        confidence, pseudo = logits_weak.detach().softmax(dim=1).max(dim=1)
        mask = (confidence >= cfg.threshold).float()
        loss_u = (F.cross_entropy(logits_strong, pseudo, reduction="none") * mask).mean()

        optimizer.zero_grad()
        (loss_x + cfg.lambda_u * loss_u).backward()
        optimizer.step()
        scheduler.step()
        ema.update(model)

        if step % cfg.eval_every == 0:
            val_acc = evaluate(ema.module, val_loader)
            print(f"{step}: loss_x {loss_x.item():.3f} loss_u {loss_u.item():.3f} val {val_acc:.3f}")
            if val_acc > best_val:
                best_val, best_state = val_acc, copy.deepcopy(ema.module.state_dict())

    ema.module.load_state_dict(best_state)
    print(f"best validation {best_val:.3f}, test {evaluate(ema.module, test_loader):.3f}")


if __name__ == "__main__":
    main()
