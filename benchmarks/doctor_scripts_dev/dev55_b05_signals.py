"""Raw-signal classifier: 1D residual network, bfloat16 autocast, gradient accumulation, averaged weights."""
import copy
import math
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn

from toydata import waves

cfg = SimpleNamespace(
    epochs=12,
    micro_batch=25,
    accumulate=2,
    lr=0.08,
    momentum=0.9,
    weight_decay=1e-4,
    warmup=10,
    clip=5.0,
    ema_decay=0.9,
    max_shift=16,
    amp=True,
    seed=3,
)


class GroupNorm32(nn.GroupNorm):
    """Statistics in float32, whatever autocast made of the input."""

    def forward(self, x):
        return super().forward(x.float()).to(x.dtype)


class ResBlock(nn.Module):
    def __init__(self, cin, cout, stride=1):
        super().__init__()
        self.conv1 = nn.Conv1d(cin, cout, 5, stride, padding=2, bias=False)
        self.norm1 = GroupNorm32(4, cout)
        self.conv2 = nn.Conv1d(cout, cout, 5, padding=2, bias=False)
        self.norm2 = GroupNorm32(4, cout)
        self.skip = nn.Conv1d(cin, cout, 1, stride) if stride > 1 or cin != cout else nn.Identity()

    def forward(self, x):
        y = F.gelu(self.norm1(self.conv1(x)))
        return F.gelu(self.norm2(self.conv2(y)) + self.skip(x))


class WaveNetLite(nn.Module):
    def __init__(self, classes=4, width=16):
        super().__init__()
        self.stem = nn.Conv1d(1, width, 7, padding=3)
        self.blocks = nn.Sequential(
            ResBlock(width, width),
            ResBlock(width, 2 * width, stride=2),
            ResBlock(2 * width, 2 * width, stride=2),
        )
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean(-1))


class Ema:
    """Exponential moving average of the weights, for evaluation."""

    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for average, current in zip(self.module.parameters(), model.parameters()):
            average.mul_(self.decay).add_(current, alpha=1 - self.decay)


def augment(x):
    """Every batch begins somewhere else in time; each signal has a loudness of its own."""
    shift = int(torch.randint(-cfg.max_shift, cfg.max_shift + 1, ()))
    x = torch.roll(x, shift, dims=-1)
    return x * torch.empty(len(x), 1, 1).uniform_(0.8, 1.2)


def batches(signals, labels, size):
    order = torch.randperm(len(signals))
    for chunk in order.split(size):
        yield augment(signals[chunk]), labels[chunk]


def lr_factor(update, total):
    if update < cfg.warmup:
        return (update + 1) / cfg.warmup
    progress = min(1.0, (update - cfg.warmup) / max(1, total - cfg.warmup))
    return 0.5 * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def evaluate(net, signals, labels, size=100):
    net.eval()
    correct, loss = 0, 0.0
    for x, y in zip(signals.split(size), labels.split(size)):
        logits = net(x)
        loss += F.cross_entropy(logits, y, reduction="sum").item()
        correct += (logits.argmax(1) == y).sum().item()
    return loss / len(labels), correct / len(labels)


def main():
    torch.manual_seed(cfg.seed)
    train_x, train_y = waves(900, seed=0)
    valid_x, valid_y = waves(300, seed=1)
    mean, std = train_x.mean(), train_x.std()
    train_x, valid_x = (train_x - mean) / std, (valid_x - mean) / std

    model = WaveNetLite()
    ema = Ema(model, cfg.ema_decay)
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": decay, "weight_decay": cfg.weight_decay}, {"params": no_decay, "weight_decay": 0.0}],
        lr=cfg.lr, momentum=cfg.momentum, nesterov=True,
    )
    updates_per_epoch = len(train_x) // (cfg.micro_batch * cfg.accumulate)
    total = cfg.epochs * updates_per_epoch
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda update: lr_factor(update, total))

    for epoch in range(1, cfg.epochs + 1):
        model.train()
        running, seen = 0.0, 0
        for i, (x, y) in enumerate(batches(train_x, train_y, cfg.micro_batch)):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=cfg.amp):
                logits = model(x)
            loss = F.cross_entropy(logits.float(), y)
            (loss / cfg.accumulate).backward()
            running, seen = running + loss.item() * len(y), seen + len(y)
            if (i + 1) % cfg.accumulate == 0:
                nn.utils.clip_grad_norm_(model.parameters(), cfg.clip)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                scheduler.step()
                ema.update(model)
        valid_loss, accuracy = evaluate(ema.module, valid_x, valid_y)
        print(f"[{epoch:02d}] train {running / seen:.4f}  valid {valid_loss:.4f}  accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
