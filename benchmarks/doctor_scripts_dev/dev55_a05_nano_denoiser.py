"""
The simplest, fastest repository for training a small diffusion denoiser on digits.
One file, one loop, everything is a global of the config below; override with --key=value.
"""

import math
import sys
import time

import torch
import torch.nn as nn
from torch.nn import functional as F
from toydata import draw_digits

# -----------------------------------------------------------------------------
# default config values
config = dict(
    eval_interval=60,
    eval_iters=6,
    batch_size=48,
    n_images=1500,
    n_channel=24,
    n_block=3,
    learning_rate=2e-3,
    max_iters=360,
    warmup_iters=20,
    min_lr=1e-4,
    weight_decay=1e-1,
    beta2=0.99,
    grad_clip=1.0,
    seed=1337,
)
# -----------------------------------------------------------------------------

class Block(nn.Module):
    """ a residual block that begins as the identity, by a gate of zero """

    def __init__(self, n_channel):
        super().__init__()
        self.conv1 = nn.Conv2d(n_channel, n_channel, 3, padding=1)
        self.conv2 = nn.Conv2d(n_channel, n_channel, 3, padding=1)
        self.time = nn.Linear(32, n_channel)
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, x, emb):
        h = F.silu(self.conv1(x)) * (1 + self.time(emb)[:, :, None, None])
        return x + self.gate * F.silu(self.conv2(h))

class Denoiser(nn.Module):
    def __init__(self, n_channel, n_block):
        super().__init__()
        self.register_buffer("freqs", math.pi * 2.0 ** torch.arange(4))
        self.time = nn.Sequential(nn.Linear(8, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU())
        self.stem = nn.Conv2d(1, n_channel, 5, padding=2)
        self.blocks = nn.ModuleList([Block(n_channel) for _ in range(n_block)])
        self.head = nn.Conv2d(n_channel, 1, 3, padding=1)
        self.apply(self._init_weights)
        print("number of parameters: %d" % sum(p.numel() for p in self.parameters()))

    def _init_weights(self, module):
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            nn.init.zeros_(module.bias)

    def forward(self, x, t):
        angle = t[:, None] * self.freqs
        emb = self.time(torch.cat([angle.sin(), angle.cos()], 1))
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, emb)
        return self.head(x)

    def configure_optimizers(self, weight_decay, learning_rate, betas):
        # any parameter that is 2D or more is decayed, all biases and gates are not
        decay = [p for p in self.parameters() if p.dim() >= 2]
        nodecay = [p for p in self.parameters() if p.dim() < 2]
        groups = [{"params": decay, "weight_decay": weight_decay}, {"params": nodecay, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas)

def schedule(t):
    """ how much of the image and how much noise there is at time t, of 0 to 1 """
    angle = 0.5 * math.pi * t.view(-1, 1, 1, 1)
    return angle.cos(), angle.sin()

def corrupt(x0, t):
    noise = torch.randn_like(x0)
    a, s = schedule(t)
    xt = a * x0 + s * noise
    return xt, noise

def main():
    for arg in sys.argv[1:]:
        if arg.startswith("--") and "=" in arg:
            key, val = arg[2:].split("=")
            config[key] = type(config[key])(val)
    C = type("Config", (), config)
    torch.manual_seed(C.seed)

    images, _ = draw_digits(C.n_images, seed=0)
    data = images.float() / 127.5 - 1.0
    n = int(0.9 * len(data)) # first 90% will be train, rest val
    train_data = data[:n]
    val_data = data[n:]

    def get_batch(split):
        source = train_data if split == "train" else val_data
        ix = torch.randint(len(source), (C.batch_size,))
        x0 = source[ix]
        t = 0.05 + 0.9 * torch.rand(C.batch_size)
        return x0, t

    model = Denoiser(C.n_channel, C.n_block)
    optimizer = model.configure_optimizers(C.weight_decay, C.learning_rate, (0.9, C.beta2))

    def compute_loss(x0, t):
        xt, noise = corrupt(x0, t)
        pred = model(xt, t)
        loss = F.mse_loss(pred, noise)
        a, s = schedule(t)
        x0_hat = (xt - s * pred) / a
        return loss, x0_hat

    @torch.no_grad()
    def estimate_loss():
        out = {}
        model.eval()
        for split in ["train", "val"]:
            losses = torch.zeros(C.eval_iters)
            psnr = torch.zeros(C.eval_iters)
            for k in range(C.eval_iters):
                x0, t = get_batch(split)
                losses[k], _ = compute_loss(x0, t)
                # a picture of it: how well is an image with some noise restored
                _, x0_hat = compute_loss(x0, torch.full_like(t, 0.4))
                psnr[k] = 10 * torch.log10(4.0 / F.mse_loss(x0_hat.clamp(-1, 1), x0))
            out[split] = losses.mean().item(), psnr.mean().item()
        model.train()
        return out

    # learning rate decay scheduler (cosine with warmup)
    def get_lr(it):
        if it < C.warmup_iters:
            return C.learning_rate * (it + 1) / (C.warmup_iters + 1)
        decay_ratio = (it - C.warmup_iters) / (C.max_iters - C.warmup_iters)
        coeff = 0.5 * (1.0 + math.cos(math.pi * decay_ratio))
        return C.min_lr + coeff * (C.learning_rate - C.min_lr)

    t0 = time.time()
    for it in range(C.max_iters):
        for param_group in optimizer.param_groups:
            param_group["lr"] = get_lr(it)
        x0, t = get_batch("train")
        loss, _ = compute_loss(x0, t)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), C.grad_clip)
        optimizer.step()
        if (it + 1) % C.eval_interval == 0:
            out = estimate_loss()
            print(f"step {it + 1}: train {out['train'][0]:.4f}, val {out['val'][0]:.4f}, "
                  f"val psnr {out['val'][1]:.2f} dB, {time.time() - t0:.1f} s")

if __name__ == "__main__":
    main()
