"""
nanoDenoise: train a tiny conditional denoiser of digits, in one file.
The network sees a noisy image and the noise level, and predicts the clean image.
$ python a04_nano_denoise.py
"""

import math
import time
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch.nn import functional as F

from toydata import draw_digits

# default config values
eval_interval = 50
eval_iters = 4
log_interval = 25
# data
batch_size = 24
gradient_accumulation_steps = 2  # used to simulate larger batch sizes
sigma_min, sigma_max = 0.3, 1.5
# model
n_channel = 16
n_block = 2
# optimizer
learning_rate = 2e-3
max_iters = 250
weight_decay = 1e-2
beta1, beta2 = 0.9, 0.99
grad_clip = 1.0
warmup_iters = 10
lr_decay_iters = 250
min_lr = 1e-4
device = "cuda" if torch.cuda.is_available() else "cpu"
ptdtype = torch.bfloat16

@dataclass
class DenoiserConfig:
    n_channel: int = 16
    n_block: int = 2

class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        c = config.n_channel
        self.conv1 = nn.Conv2d(c, c, 3, padding=1)
        self.conv2 = nn.Conv2d(c, c, 3, padding=1)
        self.c_emb = nn.Linear(c, c)

    def forward(self, x, emb):
        h = self.conv1(F.gelu(x)) + self.c_emb(emb)[:, :, None, None]
        return x + self.conv2(F.gelu(h))

class Denoiser(nn.Module):
    def __init__(self, config):
        super().__init__()
        c = config.n_channel
        self.stem = nn.Conv2d(1, c, 5, padding=2)
        self.emb = nn.Sequential(nn.Linear(1, c), nn.GELU(), nn.Linear(c, c), nn.GELU())
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.n_block)])
        self.head = nn.Conv2d(c, 1, 5, padding=2)
        print("number of parameters: %.2fK" % (sum(p.numel() for p in self.parameters()) / 1e3,))

    def forward(self, noisy, sigma, targets=None):
        emb = self.emb(sigma.log()[:, None])
        x = self.stem(noisy)
        for block in self.blocks:
            x = block(x, emb)
        pred = self.head(F.gelu(x))
        loss = None if targets is None else F.mse_loss(pred.float(), targets)
        return pred, loss

    def configure_optimizers(self, weight_decay, learning_rate, betas):
        decay = [p for p in self.parameters() if p.dim() >= 2]
        nodecay = [p for p in self.parameters() if p.dim() < 2]
        groups = [{"params": decay, "weight_decay": weight_decay}, {"params": nodecay, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas)

# learning rate decay scheduler (cosine with warmup)
def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / (warmup_iters + 1)
    if it > lr_decay_iters:
        return min_lr
    decay_ratio = (it - warmup_iters) / (lr_decay_iters - warmup_iters)
    coeff = 0.5 * (1.0 + math.cos(math.pi * decay_ratio))  # coeff ranges 0..1
    return min_lr + coeff * (learning_rate - min_lr)

def main():
    torch.manual_seed(1337)
    ctx = torch.amp.autocast(device_type=device, dtype=ptdtype)

    images, _ = draw_digits(1600, size=16, seed=1337, noise=0.02)
    data = images.float() / 127.5 - 1.0
    n = int(0.9 * len(data))
    train_data, val_data = data[:n], data[n:]

    def get_batch(split):
        data = train_data if split == "train" else val_data
        ix = torch.randint(len(data), (batch_size,))
        x = data[ix]
        sigma = torch.empty(batch_size).uniform_(sigma_min, sigma_max)
        noisy = x + sigma[:, None, None, None] * torch.randn_like(x)
        return noisy.to(device), sigma.to(device), x.to(device)

    model = Denoiser(DenoiserConfig(n_channel=n_channel, n_block=n_block))
    model.to(device)
    optimizer = model.configure_optimizers(weight_decay, learning_rate, (beta1, beta2))

    @torch.no_grad()
    def estimate_loss():
        out = {}
        model.eval()
        for split in ["train", "val"]:
            losses = torch.zeros(eval_iters)
            for k in range(eval_iters):
                noisy, sigma, x = get_batch(split)
                with ctx:
                    _, loss = model(noisy, sigma, x)
                losses[k] = loss.item()
            out[split] = losses.mean()
        model.train()
        return out

    # training loop
    best_val_loss, checkpoint = 1e9, None
    t0 = time.time()
    for iter_num in range(max_iters + 1):
        lr = get_lr(iter_num)
        for param_group in optimizer.param_groups:
            param_group["lr"] = lr

        if iter_num % eval_interval == 0:
            losses = estimate_loss()
            print(f"step {iter_num}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}")
            if losses["val"] < best_val_loss:
                best_val_loss = losses["val"]
                checkpoint = {"model": {k: v.clone() for k, v in model.state_dict().items()}, "iter_num": iter_num}

        for micro_step in range(gradient_accumulation_steps):
            noisy, sigma, x = get_batch("train")
            with ctx:
                pred, loss = model(noisy, sigma, x)
                loss = loss / gradient_accumulation_steps  # scale the loss to account for gradient accumulation
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        if iter_num % log_interval == 0:
            dt, t0 = time.time() - t0, time.time()
            print(f"iter {iter_num}: loss {loss.item() * gradient_accumulation_steps:.4f}, time {dt * 1000:.0f}ms")

    print(f"best val loss {best_val_loss:.4f} at iter {checkpoint['iter_num']}")

if __name__ == "__main__":
    main()
