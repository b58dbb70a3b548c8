"""
A tiny noise-predicting U-Net on generated digits, in one file: raw tensors, get_batch, gradient accumulation.
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
# default config values
max_iters = 400
eval_interval = 80
eval_iters = 4
batch_size = 24
gradient_accumulation_steps = 2
learning_rate = 2e-3
min_lr = 2e-4
warmup_iters = 20
lr_decay_iters = 400
weight_decay = 1e-2
grad_clip = 1.0
dtype = "float32"  # or 'bfloat16'
seed = 1337
# -----------------------------------------------------------------------------


@dataclass
class DenoiserConfig:
    n_channel: int = 24
    n_embd: int = 32
    sigma_min: float = 0.1
    sigma_max: float = 1.5


class Block(nn.Module):
    def __init__(self, cin, cout, n_embd):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
        self.norm = nn.GroupNorm(4, cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
        self.emb = nn.Linear(n_embd, cout)
        self.skip = nn.Conv2d(cin, cout, 1)

    def forward(self, x, emb):
        h = self.conv1(x) + self.emb(emb)[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm(h)))


class Denoiser(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        c, e = config.n_channel, config.n_embd
        self.sigma_mlp = nn.Sequential(nn.Linear(2, e), nn.SiLU(), nn.Linear(e, e))
        self.stem = nn.Conv2d(1, c, 3, padding=1)
        self.down = Block(c, c, e)
        self.middle = Block(c, 2 * c, e)
        self.up = Block(3 * c, c, e)
        self.head = nn.Conv2d(c, 1, 3, padding=1)
        print(f"number of parameters: {sum(p.numel() for p in self.parameters()) / 1e3:.1f}K")

    def encode(self, x, sigma):
        level = sigma.log()
        emb = F.silu(self.sigma_mlp(torch.stack([level, level**2], dim=1)))
        fine = self.down(self.stem(x), emb)
        coarse = self.middle(F.avg_pool2d(fine, 2), emb)
        return fine, coarse, emb

    def forward(self, noisy, sigma, targets=None):
        scale = (1 + sigma**2).rsqrt().view(-1, 1, 1, 1)
        fine, coarse, emb = self.encode(noisy * scale, sigma)
        h = torch.cat([fine, F.interpolate(coarse, scale_factor=2, mode="nearest")], dim=1)
        eps = self.head(F.silu(self.up(h, emb)))
        loss = None if targets is None else F.mse_loss(eps.float(), targets)
        return eps, loss

    @torch.no_grad()
    def denoise(self, noisy, sigma):
        eps, _ = self(noisy, sigma)
        return (noisy - sigma.view(-1, 1, 1, 1) * eps.float()).clamp(-1, 1)

    def configure_optimizers(self):
        decay = [p for p in self.parameters() if p.dim() >= 2]
        nodecay = [p for p in self.parameters() if p.dim() < 2]
        groups = [{"params": decay, "weight_decay": weight_decay}, {"params": nodecay, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.99))


# learning rate decay scheduler (cosine with warmup)
def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / (warmup_iters + 1)
    if it > lr_decay_iters:
        return min_lr
    decay_ratio = (it - warmup_iters) / (lr_decay_iters - warmup_iters)
    coeff = 0.5 * (1.0 + math.cos(math.pi * decay_ratio))
    return min_lr + coeff * (learning_rate - min_lr)


def main():
    torch.manual_seed(seed)
    ctx = nullcontext() if dtype == "float32" else torch.autocast(device_type="cpu", dtype=torch.bfloat16)

    images, _ = draw_digits(1600, seed=5, noise=0.02)
    data = images.float() / 127.5 - 1
    n = int(0.9 * len(data))
    train_data, val_data = data[:n], data[n:]

    config = DenoiserConfig()
    model = Denoiser(config)
    optimizer = model.configure_optimizers()

    def get_batch(split):
        source = train_data if split == "train" else val_data
        clean = source[torch.randint(len(source), (batch_size,))]
        low, high = math.log(config.sigma_min), math.log(config.sigma_max)
        sigma = torch.exp(low + (high - low) * torch.rand(batch_size))
        noise = torch.randn_like(clean)
        noisy = clean + sigma.view(-1, 1, 1, 1) * noise
        return noisy, sigma, noise, clean

    @torch.no_grad()
    def estimate_loss():
        out = {}
        model.eval()
        for split in ["train", "val"]:
            losses = torch.zeros(eval_iters)
            errors = torch.zeros(eval_iters)
            for k in range(eval_iters):
                noisy, sigma, noise, clean = get_batch(split)
                with ctx:
                    _, loss = model(noisy, sigma, noise)
                    restored = model.denoise(noisy, sigma)
                losses[k] = loss.item()
                errors[k] = F.mse_loss(restored, clean).item()
            out[split] = losses.mean().item()
            out[split + "_psnr"] = 10 * math.log10(4 / errors.mean().item())
        model.train()
        return out

    best_val_loss = float("inf")
    checkpoint = None
    t0 = time.time()
    for iter_num in range(max_iters):
        lr = get_lr(iter_num)
        for param_group in optimizer.param_groups:
            param_group["lr"] = lr

        for micro_step in range(gradient_accumulation_steps):
            noisy, sigma, noise, _ = get_batch("train")
            with ctx:
                _, loss = model(noisy, sigma, noise)
                loss = loss / gradient_accumulation_steps
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        if (iter_num + 1) % eval_interval == 0:
            losses = estimate_loss()
            print(f"step {iter_num + 1}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}, val psnr {losses['val_psnr']:.2f} dB")
            if losses["val"] < best_val_loss:
                best_val_loss = losses["val"]
                checkpoint = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(checkpoint)
    print(f"best val loss {best_val_loss:.4f}, {time.time() - t0:.1f} s")


if __name__ == "__main__":
    main()
