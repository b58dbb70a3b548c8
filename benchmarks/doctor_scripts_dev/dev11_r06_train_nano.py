"""
One file that trains a small convnet on shapes.
$ python train_nano.py --batch_size=8 --max_iters=200
"""

import math
import os
import sys
import tempfile
import time
from ast import literal_eval
from contextlib import nullcontext

import numpy as np
import torch
import torch.nn as nn
from torch.nn import functional as F

from toydata import Shapes

# -----------------------------------------------------------------------------
# I/O
out_dir = tempfile.mkdtemp()
eval_interval = 50
log_interval = 10
eval_iters = 10
# data
gradient_accumulation_steps = 8
batch_size = 16
# model
n_layer = 3
n_embd = 24
# sgd
learning_rate = 0.08
momentum = 0.9
weight_decay = 5e-4
max_iters = 200
grad_clip = 2.0
# learning rate decay
decay_lr = True
warmup_iters = 10
lr_decay_iters = 200
min_lr = 1e-3
# system
device = "cpu"
dtype = "float32"  # 'float32', 'bfloat16', or 'float16'; the latter with a GradScaler
seed = 1337
# -----------------------------------------------------------------------------
config_keys = [k for k, v in globals().items() if not k.startswith("_") and isinstance(v, (int, float, bool, str))]
for arg in sys.argv[1:]:
    if arg.startswith("--") and "=" in arg:
        key, val = arg[2:].split("=")
        assert key in config_keys, f"unknown config key: {key}"
        try:
            val = literal_eval(val)
        except (SyntaxError, ValueError):
            pass
        globals()[key] = val
config = {k: globals()[k] for k in config_keys}
# -----------------------------------------------------------------------------

os.makedirs(out_dir, exist_ok=True)
torch.manual_seed(seed)
ptdtype = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[dtype]
ctx = nullcontext() if dtype == "float32" else torch.autocast(device_type=device, dtype=ptdtype)


def prepare(split):
    shapes = Shapes(train=split == "train", count=1600 if split == "train" else 400)
    x = np.stack([image.numpy() for image in shapes.images]).astype(np.float32)
    y = np.array(shapes.targets, dtype=np.int64)
    order = np.random.default_rng(seed).permutation(len(x))
    return (x[order] - 0.5) / 0.25, y[order]


data = {split: prepare(split) for split in ("train", "val")}


def get_batch(split):
    x, y = data[split]
    ix = torch.randint(len(x), (batch_size,)).numpy()
    return torch.from_numpy(x[ix]).to(device), torch.from_numpy(y[ix]).to(device)


class Block(nn.Module):
    def __init__(self, n_embd):
        super().__init__()
        self.norm = nn.GroupNorm(1, n_embd)
        self.mix = nn.Conv2d(n_embd, n_embd, 3, padding=1)
        self.proj = nn.Conv2d(n_embd, n_embd, 1)

    def forward(self, x):
        return x + self.proj(F.gelu(self.mix(self.norm(x))))


class Net(nn.Module):
    def __init__(self, n_layer, n_embd, n_class):
        super().__init__()
        self.stem = nn.Conv2d(3, n_embd, 2, stride=2)
        self.blocks = nn.ModuleList([Block(n_embd) for _ in range(n_layer)])
        self.norm_f = nn.GroupNorm(1, n_embd)
        self.head = nn.Linear(n_embd * 4, n_class)
        self.apply(self._init_weights)
        print(f"number of parameters: {sum(p.numel() for p in self.parameters()) / 1e3:.1f}k")

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight[0].numel()))
            nn.init.zeros_(module.bias)

    def forward(self, x, targets=None):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = F.adaptive_max_pool2d(self.norm_f(x), 2).flatten(1)
        logits = self.head(x)
        loss = None if targets is None else F.cross_entropy(logits, targets)
        return logits, loss


model = Net(n_layer, n_embd, 6).to(device)
scaler = torch.amp.GradScaler(device, enabled=(dtype == "float16"))
optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=momentum, weight_decay=weight_decay)


@torch.no_grad()
def estimate_loss():
    out = {}
    model.eval()
    for split in ("train", "val"):
        losses, hits = torch.zeros(eval_iters), torch.zeros(eval_iters)
        for k in range(eval_iters):
            X, Y = get_batch(split)
            with ctx:
                logits, loss = model(X, Y)
            losses[k] = loss.item()
            hits[k] = (logits.argmax(-1) == Y).float().mean().item()
        out[split], out[split + "_acc"] = losses.mean().item(), hits.mean().item()
    model.train()
    return out


# learning rate schedule (cosine with warmup)
def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / (warmup_iters + 1)
    if it > lr_decay_iters:
        return min_lr
    decay_ratio = (it - warmup_iters) / (lr_decay_iters - warmup_iters)
    coeff = 0.5 * (1.0 + math.cos(math.pi * decay_ratio))
    return min_lr + coeff * (learning_rate - min_lr)


X, Y = get_batch("train")
t0 = time.time()
iter_num = 0
best_val_loss = 1e9
while True:
    lr = get_lr(iter_num) if decay_lr else learning_rate
    for param_group in optimizer.param_groups:
        param_group["lr"] = lr

    if iter_num % eval_interval == 0:
        losses = estimate_loss()
        print(f"step {iter_num}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}, val acc {losses['val_acc']:.4f}")
        if losses["val"] < best_val_loss and iter_num > 0:
            best_val_loss = losses["val"]
            torch.save({"model": model.state_dict(), "iter_num": iter_num, "config": config}, os.path.join(out_dir, "ckpt.pt"))

    for micro_step in range(gradient_accumulation_steps):
        with ctx:
            logits, loss = model(X, Y)
            loss = loss / gradient_accumulation_steps
        X, Y = get_batch("train")
        scaler.scale(loss).backward()
    if grad_clip != 0.0:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)

    if iter_num % log_interval == 0:
        t1 = time.time()
        print(f"iter {iter_num}: loss {loss.item() * gradient_accumulation_steps:.4f}, time {(t1 - t0) * 1000:.0f}ms")
        t0 = t1
    iter_num += 1
    if iter_num > max_iters:
        break

eval_iters = 25
losses = estimate_loss()
print(f"final: val loss {losses['val']:.4f}, val acc {losses['val_acc']:.4f}")
