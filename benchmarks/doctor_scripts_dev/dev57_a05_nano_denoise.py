"""
Denoises small digits, one file, no frills. Config is the globals below; no DataLoader, batches are drawn at random.
"""
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch.nn import functional as F

from toydata import draw_digits

# -----------------------------------------------------------------------------
# I/O
eval_interval = 100
eval_iters = 10
log_interval = 50
# data
gradient_accumulation_steps = 2
batch_size = 24
noise_lo, noise_hi = 0.3, 1.0
# model
n_layer = 3
n_channel = 24
# adamw optimizer
learning_rate = 2e-3
max_iters = 400
weight_decay = 1e-2
beta1, beta2 = 0.9, 0.99
grad_clip = 1.0
# learning rate decay settings
warmup_iters = 20
lr_decay_iters = 400
min_lr = 2e-4
# system
device = "cpu"
dtype = "bfloat16"  # 'float32' or 'bfloat16'
# -----------------------------------------------------------------------------

ptdtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
ctx = nullcontext() if dtype == "float32" else torch.autocast(device_type=device, dtype=ptdtype)

def prepare(count, seed):
    images, _ = draw_digits(count, size=16, seed=seed, noise=0.0)
    return images.float() / 127.5 - 1.0

def get_batch(split, data):
    src = data[split]
    ix = torch.randint(len(src), (batch_size,))
    y = src[ix]
    sigma = noise_lo + (noise_hi - noise_lo) * torch.rand(batch_size, 1, 1, 1)
    x = y + sigma * torch.randn_like(y)
    return x.to(device), sigma.view(-1, 1).to(device), y.to(device)

@dataclass
class DenoiserConfig:
    n_layer: int = 3
    n_channel: int = 24

class Block(nn.Module):
    def __init__(self, config, dilation):
        super().__init__()
        c = config.n_channel
        self.conv1 = nn.Conv2d(c, c, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv2d(c, c, 3, padding=1)
        self.film = nn.Linear(1, c)

    def forward(self, x, sigma):
        h = F.gelu(self.conv1(x) + self.film(sigma)[:, :, None, None])
        return x + self.conv2(h)

class Denoiser(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.stem = nn.Conv2d(1, config.n_channel, 3, padding=1)
        self.blocks = nn.ModuleList([Block(config, dilation=2**i) for i in range(config.n_layer)])
        self.out = nn.Conv2d(config.n_channel, 1, 3, padding=1)
        print("number of parameters: %.2fK" % (sum(p.numel() for p in self.parameters()) / 1e3))

    def forward(self, x, sigma, targets=None):
        h = self.stem(x)
        for block in self.blocks:
            h = block(h, sigma)
        pred = self.out(F.gelu(h)).float()
        loss = None
        if targets is not None:
            loss = F.mse_loss(pred, targets)
        return pred, loss

    def configure_optimizers(self, weight_decay, learning_rate, betas):
        params = [p for p in self.parameters() if p.requires_grad]
        decay_params = [p for p in params if p.dim() >= 2]
        nodecay_params = [p for p in params if p.dim() < 2]
        optim_groups = [
            {"params": decay_params, "weight_decay": weight_decay},
            {"params": nodecay_params, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(optim_groups, lr=learning_rate, betas=betas)

@torch.no_grad()
def estimate_loss(model, data):
    out = {}
    model.eval()
    for split in ["train", "val"]:
        losses = torch.zeros(eval_iters)
        for k in range(eval_iters):
            X, S, Y = get_batch(split, data)
            with ctx:
                _, loss = model(X, S, Y)
            losses[k] = loss.item()
        out[split] = losses.mean().item()
    model.train()
    return out

def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / (warmup_iters + 1)
    if it > lr_decay_iters:
        return min_lr
    decay_ratio = (it - warmup_iters) / (lr_decay_iters - warmup_iters)
    coeff = 0.5 * (1.0 + math.cos(math.pi * decay_ratio))
    return min_lr + coeff * (learning_rate - min_lr)

def main():
    torch.manual_seed(1337)
    data = {"train": prepare(1200, seed=20), "val": prepare(240, seed=21)}
    model = Denoiser(DenoiserConfig(n_layer=n_layer, n_channel=n_channel))
    model.to(device)
    optimizer = model.configure_optimizers(weight_decay, learning_rate, (beta1, beta2))

    best_val_loss, checkpoint = 1e9, None
    t0 = time.time()
    for iter_num in range(max_iters + 1):
        lr = get_lr(iter_num)
        for param_group in optimizer.param_groups:
            param_group["lr"] = lr

        if iter_num > 0 and iter_num % eval_interval == 0:
            losses = estimate_loss(model, data)
            print(f"step {iter_num}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}")
            if losses["val"] < best_val_loss:
                best_val_loss = losses["val"]
                checkpoint = {k: v.clone() for k, v in model.state_dict().items()}

        for micro_step in range(gradient_accumulation_steps):
            X, S, Y = get_batch("train", data)
            with ctx:
                _, loss = model(X, S, Y)
                loss = loss / gradient_accumulation_steps
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        if iter_num % log_interval == 0:
            lossf = loss.item() * gradient_accumulation_steps
            print(f"iter {iter_num}: loss {lossf:.4f}, time {(time.time() - t0) * 1000:.0f}ms")
    model.load_state_dict(checkpoint)
    print(f"best val loss {best_val_loss:.4f}")

if __name__ == "__main__":
    main()
