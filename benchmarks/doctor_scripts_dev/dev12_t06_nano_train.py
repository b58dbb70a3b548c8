"""
One file that trains a small network to read digits.
All images fit into memory, so batches are drawn straight from tensors.
"""

import math
import os
import tempfile
import time
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch.nn import functional as F

from toydata import draw_digits

# -----------------------------------------------------------------------------
# config
out_dir = tempfile.mkdtemp()
eval_interval = 100
eval_iters = 10
log_interval = 50
always_save_checkpoint = False
# data
num_images = 4000
gradient_accumulation_steps = 8  # simulates larger batches
batch_size = 16  # the micro-batch size, if gradient_accumulation_steps > 1
# model
n_hidden = 128
n_layer = 2
# optimizer
learning_rate = 0.2
max_iters = 600
momentum = 0.9
weight_decay = 1e-4
grad_clip = 0.0  # off
# learning rate decay
decay_lr = True
warmup_iters = 20
lr_decay_iters = 600  # about max_iters
min_lr = 0.005
# system
device = "cpu"
seed = 1337
# -----------------------------------------------------------------------------

torch.manual_seed(seed)
tokens_per_iter = gradient_accumulation_steps * batch_size
print(f"images per iteration: {tokens_per_iter}")

# poor man's data loader
images, labels = draw_digits(num_images, seed=3, noise=0.15)
X = (images.float() / 255 - 0.2) / 0.35
X = X.view(num_images, -1)
Y = labels
perm = torch.randperm(num_images)
X, Y = X[perm], Y[perm]
n = int(0.9 * num_images)
splits = {"train": (X[:n], Y[:n]), "val": (X[n:], Y[n:])}


def get_batch(split):
    x, y = splits[split]
    ix = torch.randint(len(x), (batch_size,))
    return x[ix].to(device), y[ix].to(device)


@dataclass
class NetConfig:
    n_in: int = 256
    n_hidden: int = 128
    n_layer: int = 2
    n_out: int = 10


class Net(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        widths = [config.n_in] + [config.n_hidden] * config.n_layer
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:])])
        self.head = nn.Linear(widths[-1], config.n_out)
        self.apply(self._init_weights)
        # a quiet last layer: all classes alike at first
        with torch.no_grad():
            self.head.weight *= 0.1
        print(f"number of parameters: {sum(p.numel() for p in self.parameters()) / 1e3:.1f}k")

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, mean=0.0, std=1.0 / math.sqrt(module.in_features))
            nn.init.zeros_(module.bias)

    def forward(self, x, targets=None):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        logits = self.head(x)
        loss = F.cross_entropy(logits, targets) if targets is not None else None
        return logits, loss


model_args = dict(n_hidden=n_hidden, n_layer=n_layer)
model = Net(NetConfig(**model_args)).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=momentum, weight_decay=weight_decay)


@torch.no_grad()
def estimate_loss():
    out = {}
    model.eval()
    for split in ("train", "val"):
        losses = torch.zeros(eval_iters)
        hits = torch.zeros(eval_iters)
        for k in range(eval_iters):
            xb, yb = get_batch(split)
            logits, loss = model(xb, yb)
            losses[k] = loss.item()
            hits[k] = (logits.argmax(-1) == yb).float().mean()
        out[split] = (losses.mean().item(), hits.mean().item())
    model.train()
    return out


def get_lr(it):
    # 1) linear warmup
    if it < warmup_iters:
        return learning_rate * (it + 1) / (warmup_iters + 1)
    # 2) the floor, after the decay
    if it > lr_decay_iters:
        return min_lr
    # 3) cosine in between
    ratio = (it - warmup_iters) / (lr_decay_iters - warmup_iters)
    return min_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (learning_rate - min_lr)


best_val_loss = 1e9
xb, yb = get_batch("train")  # the very first batch
t0 = time.time()
for iter_num in range(max_iters + 1):
    lr = get_lr(iter_num) if decay_lr else learning_rate
    for param_group in optimizer.param_groups:
        param_group["lr"] = lr

    if iter_num % eval_interval == 0:
        stats = estimate_loss()
        print(
            f"step {iter_num}: train loss {stats['train'][0]:.4f}, val loss {stats['val'][0]:.4f}, "
            f"val acc {stats['val'][1]:.3f}"
        )
        if stats["val"][0] < best_val_loss or always_save_checkpoint:
            best_val_loss = stats["val"][0]
            if iter_num > 0:
                checkpoint = {"model": model.state_dict(), "model_args": model_args, "iter_num": iter_num}
                torch.save(checkpoint, os.path.join(out_dir, "ckpt.pt"))

    for micro_step in range(gradient_accumulation_steps):
        logits, loss = model(xb, yb)
        loss = loss / gradient_accumulation_steps
        # fetch the next batch
        xb, yb = get_batch("train")
        loss.backward()
    if grad_clip != 0.0:
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

    if iter_num % log_interval == 0:
        lossf = loss.item() * gradient_accumulation_steps
        dt = (time.time() - t0) / (iter_num + 1)
        print(f"iter {iter_num}: loss {lossf:.4f}, lr {lr:.4f}, time {dt * 1000:.2f}ms")

with torch.no_grad():
    model.eval()
    x, y = splits["val"]
    accuracy = (model(x)[0].argmax(-1) == y).float().mean().item()
print(f"final accuracy on all of val: {accuracy:.4f}")
