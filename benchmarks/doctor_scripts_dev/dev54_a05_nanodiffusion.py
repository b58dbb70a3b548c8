"""
A minimal diffusion model on tiny digits, in one file. No frills: a network that
predicts the noise, and a training loop.
$ python nanodiffusion.py
"""
import inspect
import math
import time
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch.nn import functional as F

from toydata import draw_digits

# -----------------------------------------------------------------------------
# hyperparameters
batch_size = 32
grad_accum_steps = 1
max_iters = 400
eval_interval = 100
eval_iters = 5
learning_rate = 3e-3
min_lr = 3e-4
warmup_iters = 20
weight_decay = 0.01
grad_clip = 1.0
n_images, n_val = 1200, 200
# -----------------------------------------------------------------------------


@dataclass
class DiffusionConfig:
    size: int = 16
    n_steps: int = 100
    n_channel: int = 16
    n_layer: int = 3
    n_time: int = 32


class Block(nn.Module):
    def __init__(self, config, dilation):
        super().__init__()
        self.norm = nn.GroupNorm(4, config.n_channel)
        self.conv1 = nn.Conv2d(config.n_channel, config.n_channel, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv2d(config.n_channel, config.n_channel, 3, padding=1)
        self.time = nn.Linear(config.n_time, config.n_channel)

    def forward(self, x, t):
        h = self.conv1(F.gelu(self.norm(x)))
        h = h + self.time(t)[:, :, None, None]
        return x + self.conv2(F.gelu(h))


class Denoiser(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.n_steps, config.n_time)
        self.stem = nn.Conv2d(1, config.n_channel, 3, padding=1)
        self.blocks = nn.ModuleList([Block(config, 2 ** (i % 3)) for i in range(config.n_layer)])
        self.head = nn.Conv2d(config.n_channel, 1, 3, padding=1)
        # cosine schedule of how much of the image is left
        steps = torch.arange(config.n_steps) + 1
        self.register_buffer("signal", torch.cos(0.5 * math.pi * steps / (config.n_steps + 1)))
        self.register_buffer("sigma", torch.sin(0.5 * math.pi * steps / (config.n_steps + 1)))

    def forward(self, x, t):
        # x is (B, H, W), and so is what comes back
        emb = F.gelu(self.wte(t))
        h = self.stem(x.unsqueeze(1))
        for block in self.blocks:
            h = block(h, emb)
        return self.head(F.gelu(h)).squeeze(1)

    def q_sample(self, x0, t, noise):
        return self.signal[t][:, None, None] * x0 + self.sigma[t][:, None, None] * noise

    def loss(self, x0):
        t = torch.randint(0, self.config.n_steps, (x0.size(0),), device=x0.device)
        noise = torch.randn_like(x0)
        target = noise
        pred = self(self.q_sample(x0, t, noise), t)
        return (pred - target).pow(2).mean()

    def configure_optimizers(self, weight_decay, learning_rate):
        param_dict = {n: p for n, p in self.named_parameters() if p.requires_grad}
        decay = [p for p in param_dict.values() if p.dim() >= 2]
        nodecay = [p for p in param_dict.values() if p.dim() < 2]
        groups = [{"params": decay, "weight_decay": weight_decay}, {"params": nodecay, "weight_decay": 0.0}]
        print(f"decayed tensors: {len(decay)}, others: {len(nodecay)}")
        fused = "fused" in inspect.signature(torch.optim.AdamW).parameters and torch.cuda.is_available()
        extra = dict(fused=True) if fused else dict()
        return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.99), **extra)


def get_lr(it):
    # linear warmup, then cosine decay down to min_lr
    if it < warmup_iters:
        return learning_rate * (it + 1) / (warmup_iters + 1)
    ratio = (it - warmup_iters) / (max_iters - warmup_iters)
    return min_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (learning_rate - min_lr)


def main():
    torch.manual_seed(1337)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images, _ = draw_digits(n_images, seed=0, noise=0.03)
    images = (images[:, 0].float() / 255 - 0.2) / 0.35
    train_data = images[:-n_val].to(device)
    val_data = images[-n_val:].to(device)

    def get_batch(split):
        data = train_data if split == "train" else val_data
        ix = torch.randint(len(data), (batch_size,))
        return data[ix]

    model = Denoiser(DiffusionConfig()).to(device)
    optimizer = model.configure_optimizers(weight_decay, learning_rate)
    print(f"number of parameters: {sum(p.numel() for p in model.parameters()) / 1e3:.1f}K")

    @torch.no_grad()
    def estimate_loss():
        out = {}
        model.eval()
        for split in ["train", "val"]:
            out[split] = sum(model.loss(get_batch(split)).item() for _ in range(eval_iters)) / eval_iters
        model.train()
        return out

    t0 = time.time()
    for it in range(max_iters):
        for group in optimizer.param_groups:
            group["lr"] = get_lr(it)
        if it % eval_interval == 0 or it == max_iters - 1:
            losses = estimate_loss()
            print(f"step {it}: train {losses['train']:.4f}, val {losses['val']:.4f}, {time.time() - t0:.1f}s")
        for _ in range(grad_accum_steps):
            loss = model.loss(get_batch("train")) / grad_accum_steps
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


if __name__ == "__main__":
    main()
