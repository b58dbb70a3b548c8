"""A small vision transformer on digits: iterations instead of epochs, closures, EMA weights for evaluation."""

import copy
import math
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Subset

from toydata import Digits

cfg = SimpleNamespace(
    seed=1,
    images=3600,
    train_size=3000,
    batch=64,
    steps=1000,
    eval_every=100,
    lr=1.5e-3,
    warmup=60,
    weight_decay=0.05,
    smoothing=0.1,
    clip=1.0,
    ema_decay=0.98,
    dim=64,
    depth=2,
    heads=4,
)


def normalize(image):
    return (image.float() / 255 - 0.2) / 0.3


def augment(image):
    dy, dx = torch.randint(-1, 2, (2,)).tolist()
    return torch.roll(normalize(image), (dy, dx), (1, 2))


def split_indices(cfg, train):
    order = torch.randperm(cfg.images, generator=torch.Generator().manual_seed(cfg.seed)).tolist()
    return order[: cfg.train_size] if train else order[cfg.train_size :]


def make_loaders(cfg):
    # two views of the same images: only the training part is augmented
    train_set = Subset(Digits(count=cfg.images, transform=augment), split_indices(cfg, train=True))
    valid_set = Subset(Digits(count=cfg.images, transform=normalize), split_indices(cfg, train=False))
    return (
        DataLoader(train_set, batch_size=cfg.batch, shuffle=True, drop_last=True),
        DataLoader(valid_set, batch_size=200),
    )


class ViT(nn.Module):
    """Patches come from two convolutions ("early convolutions help transformers see better")."""

    def __init__(self, dim, depth, heads, num_classes=10, tokens=16):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, dim // 2, 3, stride=2, padding=1),
            nn.GroupNorm(4, dim // 2),
            nn.GELU(),
            nn.Conv2d(dim // 2, dim, 3, stride=2, padding=1),
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, tokens + 1, dim))
        layer = nn.TransformerEncoderLayer(
            dim, heads, dim_feedforward=2 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        x = self.blocks(x + self.pos_embed)
        return self.head(self.norm(x[:, 0]))


class ModelEma:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for average, value in zip(self.module.parameters(), model.parameters()):
            average.lerp_(value, 1 - self.decay)


def make_schedule(optimizer, cfg):
    def factor(step):
        if step < cfg.warmup:
            return (step + 1) / cfg.warmup
        progress = (step - cfg.warmup) / (cfg.steps - cfg.warmup)
        return 0.5 * (1 + math.cos(math.pi * progress))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def make_optimizer(model, cfg):
    decay = [p for p in model.parameters() if p.ndim >= 2]
    no_decay = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": cfg.weight_decay}, {"params": no_decay, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=cfg.lr, betas=(0.9, 0.98))


def make_update(model, ema, optimizer, schedule, cfg):
    def update(images, labels):
        model.train()
        loss = F.cross_entropy(model(images), labels, label_smoothing=cfg.smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), cfg.clip)
        optimizer.step()
        schedule.step()
        ema.update(model)
        return loss.detach()

    return update


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    correct = total = 0
    for images, labels in loader:
        correct += (model(images).argmax(dim=-1) == labels).sum().item()
        total += len(labels)
    return correct / total


def forever(loader):
    while True:
        yield from loader


def main():
    torch.manual_seed(cfg.seed)
    train_loader, valid_loader = make_loaders(cfg)
    model = ViT(cfg.dim, cfg.depth, cfg.heads)
    ema = ModelEma(model, cfg.ema_decay)
    optimizer = make_optimizer(model, cfg)
    update = make_update(model, ema, optimizer, make_schedule(optimizer, cfg), cfg)

    batches = forever(train_loader)
    losses = []
    for step in range(1, cfg.steps + 1):
        losses.append(update(*next(batches)))
        if step % cfg.eval_every == 0:
            print(
                f"step {step:4d}  loss {torch.stack(losses).mean():.4f}  "
                f"lr {optimizer.param_groups[0]['lr']:.2e}  valid acc (ema) {accuracy(ema.module, valid_loader):.4f}"
            )
            losses.clear()


if __name__ == "__main__":
    main()
