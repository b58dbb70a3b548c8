"""
Trains a tiny convolutional denoiser on digits. Everything is in this one file.
Override the defaults like so:
$ python a05_denoise.py --max_iters=1000
"""
import argparse
import math
import time
from dataclasses import dataclass, fields

import torch
import torch.nn as nn
from torch.nn import functional as F

from toydata import draw_digits

# -----------------------------------------------------------------------------

@dataclass
class Config:
    # data
    n_train: int = 1200
    n_val: int = 200
    sigma: float = 0.5
    batch_size: int = 16
    gradient_accumulation_steps: int = 2
    # model
    n_layer: int = 2
    n_embd: int = 16
    learning_rate: float = 3e-3
    min_lr: float = 3e-4
    weight_decay: float = 1e-2
    beta1: float = 0.9
    beta2: float = 0.98
    grad_clip: float = 1.0
    warmup_iters: int = 20
    max_iters: int = 200
    eval_interval: int = 50
    eval_iters: int = 5
    seed: int = 1337

# -----------------------------------------------------------------------------

class Block(nn.Module):
    """a residual block of two convolutions"""

    def __init__(self, config):
        super().__init__()
        self.norm = nn.GroupNorm(4, config.n_embd)
        self.c_in = nn.Conv2d(config.n_embd, 2 * config.n_embd, 3, padding=1)
        self.c_out = nn.Conv2d(2 * config.n_embd, config.n_embd, 3, padding=1)

    def forward(self, x):
        return x + self.c_out(F.gelu(self.c_in(self.norm(x))))

class Denoiser(nn.Module):

    def __init__(self, config):
        super().__init__()
        self.stem = nn.Conv2d(1, config.n_embd, 3, padding=1)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.norm_f = nn.GroupNorm(4, config.n_embd)
        self.head = nn.Conv2d(config.n_embd, 1, 3, padding=1)
        self.apply(self._init_weights)
        print("number of parameters: %.1fK" % (sum(p.numel() for p in self.parameters()) / 1e3,))

    def _init_weights(self, module):
        if isinstance(module, nn.Conv2d):
            torch.nn.init.normal_(module.weight, mean=0.0, std=0.05)
            torch.nn.init.zeros_(module.bias)

    def forward(self, x, targets=None):
        h = self.stem(x)
        for block in self.blocks:
            h = block(h)
        out = x - self.head(F.gelu(self.norm_f(h))) # the network says what the noise is
        loss = None
        if targets is not None:
            loss = F.mse_loss(out, targets)
        return out, loss

    def configure_optimizers(self, config):
        # biases and norms are not decayed, kernels are
        decay = [p for p in self.parameters() if p.dim() >= 2]
        nodecay = [p for p in self.parameters() if p.dim() < 2]
        groups = [
            {'params': decay, 'weight_decay': config.weight_decay},
            {'params': nodecay, 'weight_decay': 0.0},
        ]
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2))

# -----------------------------------------------------------------------------

def load(config):
    # the images get values around zero, with about unit contrast
    train_data = draw_digits(config.n_train, seed=0, noise=0.03)[0].float() / 127.5 - 1
    val_data = draw_digits(config.n_val, seed=1, noise=0.03)[0].float() / 127.5 - 1
    return train_data, val_data

def main():
    parser = argparse.ArgumentParser()
    for f in fields(Config):
        parser.add_argument('--' + f.name, type=f.type, default=f.default)
    config = Config(**vars(parser.parse_args()))
    torch.manual_seed(config.seed)
    train_data, val_data = load(config)

    def get_batch(split):
        data = train_data if split == 'train' else val_data
        ix = torch.randint(len(data), (config.batch_size,))
        y = data[ix]
        x = y + config.sigma * torch.randn_like(y)
        return x, y

    def get_lr(it):
        # 1) linear warmup for warmup_iters steps
        if it < config.warmup_iters:
            return config.learning_rate * (it + 1) / config.warmup_iters
        # 2) cosine decay down to min learning rate
        decay_ratio = (it - config.warmup_iters) / (config.max_iters - config.warmup_iters)
        coeff = 0.5 * (1.0 + math.cos(math.pi * decay_ratio))
        return config.min_lr + coeff * (config.learning_rate - config.min_lr)

    model = Denoiser(config)
    optimizer = model.configure_optimizers(config)

    @torch.no_grad()
    def estimate_loss():
        out = {}
        model.eval()
        for split in ['train', 'val']:
            losses = torch.zeros(config.eval_iters)
            for k in range(config.eval_iters):
                X, Y = get_batch(split)
                _, loss = model(X, Y)
                losses[k] = loss.item()
            out[split] = losses.mean().item()
        model.train()
        return out

    t0 = time.time()
    for iter_num in range(config.max_iters):
        lr = get_lr(iter_num)
        for param_group in optimizer.param_groups:
            param_group['lr'] = lr
        if iter_num % config.eval_interval == 0 or iter_num == config.max_iters - 1:
            losses = estimate_loss()
            psnr = 10 * math.log10(4 / losses['val'])
            print(f"step {iter_num}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}, psnr {psnr:.2f} dB, {time.time() - t0:.1f}s")
        for micro_step in range(config.gradient_accumulation_steps):
            X, Y = get_batch('train')
            _, loss = model(X, Y)
            loss = loss / config.gradient_accumulation_steps
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

if __name__ == '__main__':
    main()
