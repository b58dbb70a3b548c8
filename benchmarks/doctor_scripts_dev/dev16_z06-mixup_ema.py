# digits, small convnet: mixup + EMA weights + one-cycle. ~10 s on a laptop core
import copy
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Beta
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

torch.manual_seed(11)

epochs, bs, max_lr, wd = 10, 60, 4e-3, 0.02
mixup_alpha, ema_decay = 0.3, 0.97
p_drop = 0.2


def prepare(n, seed):
    im, lab = draw_digits(n, size=20, seed=seed, noise=0.2, shift=3)
    return TensorDataset(im.float().div(255).sub(0.15).div(0.28), lab)


train_dl = DataLoader(prepare(1500, seed=5), batch_size=bs, shuffle=True, drop_last=True)
valid_dl = DataLoader(prepare(500, seed=6), batch_size=250)


def block(ci, co):
    return nn.Sequential(
        nn.Conv2d(ci, co, 3, padding=1, bias=False),
        nn.BatchNorm2d(co),
        nn.GELU(),
        nn.MaxPool2d(2),
        nn.Dropout2d(p_drop / 2),
    )


model = nn.Sequential(
    block(1, 16),
    block(16, 32),
    nn.Flatten(),
    nn.Linear(32 * 25, 96),
    nn.GELU(),
    nn.Dropout(p_drop),
    nn.Linear(96, 10),
)
for m in model.modules():
    if isinstance(m, (nn.Conv2d, nn.Linear)):
        nn.init.kaiming_normal_(m.weight)
        if m.bias is not None:
            nn.init.zeros_(m.bias)

ema = copy.deepcopy(model).eval()
for q in ema.parameters():
    q.requires_grad_(False)

decay, no_decay = [], []
for p in model.parameters():
    (decay if p.ndim > 1 else no_decay).append(p)
opt = torch.optim.AdamW([{"params": decay, "weight_decay": wd}, {"params": no_decay, "weight_decay": 0.0}], lr=max_lr)
sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=max_lr, epochs=epochs, steps_per_epoch=len(train_dl), pct_start=0.25)

beta = Beta(mixup_alpha, mixup_alpha)
history = []
for epoch in range(epochs):
    model.train()
    smooth = None
    for x, y in train_dl:
        # mixup: blend every image with another one of the batch
        lam = beta.sample().item()
        perm = torch.randperm(len(x))
        xm = lam * x + (1 - lam) * x[perm]
        out = model(xm)
        loss = lam * F.cross_entropy(out, y) + (1 - lam) * F.cross_entropy(out, y[perm])

        opt.zero_grad(set_to_none=True)
        loss.backward()
        gn = nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        opt.step()
        sched.step()

        # exponential moving average of the weights; statistics are taken over as they are
        with torch.no_grad():
            for q, p in zip(ema.parameters(), model.parameters()):
                q.lerp_(p, 1 - ema_decay)
            for q, p in zip(ema.buffers(), model.buffers()):
                q.copy_(p)
        smooth = loss.item() if smooth is None else 0.9 * smooth + 0.1 * loss.item()

    with torch.no_grad():
        right = n = 0
        nll = 0.0
        for x, y in valid_dl:
            out = ema(x)
            right += (out.argmax(-1) == y).sum().item()
            nll += F.cross_entropy(out, y, reduction="sum").item()
            n += len(y)
    history.append((right / n, nll / n))
    print(f"{epoch:2d}  lr {sched.get_last_lr()[0]:.2e}  mixup loss {smooth:.3f}  grad {gn:.2f}  "
          f"ema: nll {nll / n:.3f} acc {right / n:.3f}")

best = max(range(epochs), key=lambda e: history[e][0])
print(f"last acc {history[-1][0]:.3f}, perplexity {math.exp(history[-1][1]):.3f}; best acc {history[best][0]:.3f} in epoch {best}")
