import copy
import math

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves

cfg = dict(epochs=12, batch=40, lr=4e-3, wd=1e-2, ema=0.95, seed=11)


class LeanSiLU(torch.autograd.Function):
    """x * sigmoid(x) that keeps only its input."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return grad * (s * (1 + x * (1 - s)))


class Act(nn.Module):
    def forward(self, x):
        return LeanSiLU.apply(x)


class ConvBlock(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv = nn.Conv1d(cin, cout, 7, stride=stride, padding=3, bias=False)
        self.norm = nn.BatchNorm1d(cout)
        self.act = Act()

    def forward(self, x):
        return self.act(self.norm(self.conv(x)))


class WaveNetlet(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.body = nn.Sequential(ConvBlock(1, 24, 2), ConvBlock(24, 32, 2), ConvBlock(32, 48, 2))
        self.head = nn.Linear(48, classes)

    def forward(self, x):
        return self.head(self.body(x).mean(dim=-1))


class Ema:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        for p in self.module.parameters():
            p.requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mine, theirs in zip(self.module.state_dict().values(), model.state_dict().values()):
            if mine.dtype.is_floating_point:
                mine.mul_(d).add_(theirs, alpha=1 - d)
            else:
                mine.copy_(theirs)


def lr_at(step, total):
    warm = 0.1 * total
    if step < warm:
        return cfg["lr"] * (step + 1) / (warm + 1)
    return cfg["lr"] * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm))))


@torch.inference_mode()
def accuracy(model, loader):
    model.eval()
    hits = n = 0
    for x, y in loader:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(x)
        hits += (logits.argmax(-1) == y).sum().item()
        n += y.numel()
    return hits / n


def main():
    torch.manual_seed(cfg["seed"])
    np.random.seed(cfg["seed"])
    train_ds = TensorDataset(*waves(count=600, seed=0))
    val_ds = TensorDataset(*waves(count=240, seed=1))
    train_dl = DataLoader(train_ds, cfg["batch"], shuffle=True, drop_last=True)
    val_dl = DataLoader(val_ds, 80)

    model = WaveNetlet()
    ema = Ema(model, cfg["ema"])
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([dict(params=decay, weight_decay=cfg["wd"]), dict(params=plain, weight_decay=0.0)], lr=cfg["lr"])
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)

    total, step = cfg["epochs"] * len(train_dl), 0
    for epoch in range(cfg["epochs"]):
        model.train()
        losses = []
        for x, y in train_dl:
            for group in optimizer.param_groups:
                group["lr"] = lr_at(step, total)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(x)
            objective = criterion(logits.float(), y)
            optimizer.zero_grad(set_to_none=True)
            objective.backward()
            optimizer.step()
            ema.update(model)
            losses.append(objective.item())
            step += 1
        print(f"{epoch:02d} objective={np.mean(losses):.4f} val={accuracy(model, val_dl):.3f} val_ema={accuracy(ema.module, val_dl):.3f}")


if __name__ == "__main__":
    main()
