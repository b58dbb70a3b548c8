"""Trains a small convolutional denoiser on generated digits. One file, no framework."""
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
eval_interval = 60
log_interval = 20
eval_iters = 8
# data
batch_size = 32  # micro-batch size
gradient_accumulation_steps = 2
sigma = 0.5  # noise, for images in -1..1
# model
n_chan = 32
n_layer = 3
# optimizer
learning_rate = 2e-3
max_iters = 300
weight_decay = 1e-2
beta1, beta2 = 0.9, 0.99
grad_clip = 1.0
warmup_iters = 20
lr_decay_iters = 300
min_lr = 2e-4
# system
device = "cuda" if torch.cuda.is_available() else "cpu"
use_bf16 = True


@dataclass
class DenoiserConfig:
    n_chan: int = 32
    n_layer: int = 3


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.conv1 = nn.Conv2d(config.n_chan, config.n_chan, 3, padding=1)
        self.conv2 = nn.Conv2d(config.n_chan, config.n_chan, 3, padding=1)

    def forward(self, x):
        return x + self.conv2(F.gelu(self.conv1(x)))


class Denoiser(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.stem = nn.Conv2d(1, config.n_chan, 4, stride=2, padding=1)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.up = nn.ConvTranspose2d(config.n_chan, config.n_chan, 4, stride=2, padding=1)
        self.head = nn.Conv2d(config.n_chan, 1, 3, padding=1)
        print("number of parameters: %.2fK" % (sum(p.numel() for p in self.parameters()) / 1e3))

    def forward(self, x, targets=None):
        h = self.stem(x)
        for block in self.blocks:
            h = block(h)
        out = self.head(F.gelu(self.up(h)))
        loss = None
        if targets is not None:
            loss = F.mse_loss(out.float(), targets)
        return out, loss

    def configure_optimizers(self, weight_decay, learning_rate, betas):
        decay = [p for p in self.parameters() if p.dim() >= 2]
        nodecay = [p for p in self.parameters() if p.dim() < 2]
        groups = [{"params": decay, "weight_decay": weight_decay}, {"params": nodecay, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas)


def main():
    torch.manual_seed(1337)
    ctx = torch.autocast(device_type=device, dtype=torch.bfloat16) if use_bf16 else nullcontext()

    # the data: the first 90% train, the rest val
    images, _ = draw_digits(1600, noise=0.05, seed=3)
    data = images.float() / 127.5 - 1.0
    n = int(0.9 * len(data))
    train_data, val_data = data[:n], data[n:]

    def get_batch(split):
        data = train_data if split == "train" else val_data
        ix = torch.randint(len(data), (batch_size,))
        clean = data[ix]
        noisy = clean + sigma * torch.randn_like(clean)
        return noisy.to(device), clean.to(device)

    model = Denoiser(DenoiserConfig(n_chan=n_chan, n_layer=n_layer)).to(device)
    optimizer = model.configure_optimizers(weight_decay, learning_rate, (beta1, beta2))

    @torch.no_grad()
    def estimate_loss():
        out = {}
        model.eval()
        for split in ["train", "val"]:
            losses = torch.zeros(eval_iters)
            for k in range(eval_iters):
                X, Y = get_batch(split)
                with ctx:
                    _, loss = model(X, Y)
                losses[k] = loss.item()
            out[split] = losses.mean().item()
        model.train()
        return out

    # learning rate decay scheduler (cosine with warmup)
    def get_lr(it):
        if it < warmup_iters:
            return learning_rate * (it + 1) / (warmup_iters + 1)
        if it > lr_decay_iters:
            return min_lr
        decay_ratio = (it - warmup_iters) / (lr_decay_iters - warmup_iters)
        coeff = 0.5 * (1.0 + math.cos(math.pi * decay_ratio))
        return min_lr + coeff * (learning_rate - min_lr)

    best_val_loss, best_state = 1e9, None
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
                best_state = {k: v.detach().clone() for k, v in model.state_dict().items()}

        for micro_step in range(gradient_accumulation_steps):
            X, Y = get_batch("train")
            with ctx:
                _, loss = model(X, Y)
                loss = loss / gradient_accumulation_steps  # scale the loss to account for gradient accumulation
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        if iter_num % log_interval == 0:
            lossf = loss.item() * gradient_accumulation_steps
            print(f"iter {iter_num}: loss {lossf:.4f}, lr {lr:.2e}, time {time.time() - t0:.1f}s")

    print(f"best val loss {best_val_loss:.4f} ({len(best_state)} tensors kept)")


if __name__ == "__main__":
    main()
