"""A minimal denoising diffusion model in one file. Config first, then the model, then the loop."""
import copy
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from toydata import draw_digits

# -----------------------------------------------------------------------------
eval_interval = 70
eval_iters = 6
batch_size = 16
gradient_accumulation_steps = 2
timesteps = 100
n_ch = 16
n_temb = 32
learning_rate = 2e-3
max_iters = 350
weight_decay = 1e-2
beta1, beta2 = 0.9, 0.99
grad_clip = 1.0
ema_decay = 0.98
warmup_iters = 30
lr_decay_iters = max_iters
min_lr = 2e-4
# -----------------------------------------------------------------------------
torch.manual_seed(1337)


def load(count, seed):
    images, _ = draw_digits(count, seed=seed, noise=0.0)
    x = images.float() / 127.5 - 1
    return x


train_data, val_data = load(1200, seed=5), load(200, seed=6)
betas = torch.linspace(1e-4, 0.05, timesteps)
alphas_bar = torch.cumprod(1 - betas, dim=0)


def get_batch(split):
    data = train_data if split == "train" else val_data
    ix = torch.randint(len(data), (batch_size,))
    return data[ix], torch.randint(timesteps, (batch_size,)), torch.randn(batch_size, *data.shape[1:])


def time_embedding(t, dim):
    freqs = torch.exp(-math.log(1000.0) * torch.arange(dim // 2) / (dim // 2))
    args = t[:, None].float() * freqs[None]
    return torch.cat([args.sin(), args.cos()], dim=1)


class Block(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
        self.norm1 = nn.GroupNorm(4, cout)
        self.temb = nn.Linear(n_temb, cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
        self.norm2 = nn.GroupNorm(4, cout)

    def forward(self, x, emb):
        h = F.silu(self.norm1(self.conv1(x)))
        h = h + self.temb(emb)[:, :, None, None]
        return F.silu(self.norm2(self.conv2(h)))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(n_temb, n_temb), nn.SiLU())
        self.down1 = Block(1, n_ch)
        self.down2 = Block(n_ch, 2 * n_ch)
        self.mid = Block(2 * n_ch, 2 * n_ch)
        self.up2 = Block(4 * n_ch, n_ch)
        self.up1 = Block(2 * n_ch, n_ch)
        self.out = nn.Conv2d(n_ch, 1, 3, padding=1)

    def forward(self, x, t):
        emb = self.mlp(time_embedding(t, n_temb))
        d1 = self.down1(x, emb)
        d2 = self.down2(F.avg_pool2d(d1, 2), emb)
        m = self.mid(F.avg_pool2d(d2, 2), emb)
        u2 = self.up2(torch.cat([F.interpolate(m, scale_factor=2.0), d2], dim=1), emb)
        u1 = self.up1(torch.cat([F.interpolate(u2, scale_factor=2.0), d1], dim=1), emb)
        return self.out(u1)


def q_sample(x0, t, noise=None):
    if noise is None:
        noise = torch.randn_like(x0)
    ab = alphas_bar[t][:, None, None, None]
    return ab.sqrt() * x0 + (1 - ab).sqrt() * noise


def diffusion_loss(net, x0, t, noise):
    xt = q_sample(x0, t, noise)
    return F.mse_loss(net(xt, t), noise)


def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / (warmup_iters + 1)
    if it > lr_decay_iters:
        return min_lr
    ratio = (it - warmup_iters) / (lr_decay_iters - warmup_iters)
    return min_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (learning_rate - min_lr)


@torch.no_grad()
def update_ema(ema, net, decay):
    for p_ema, p in zip(ema.parameters(), net.parameters()):
        p_ema.mul_(decay).add_(p, alpha=1 - decay)


@torch.no_grad()
def estimate_loss(net):
    net.eval()
    out = {}
    for split in ("train", "val"):
        losses = [diffusion_loss(net, *get_batch(split)).item() for _ in range(eval_iters)]
        out[split] = sum(losses) / len(losses)
    net.train()
    return out


@torch.no_grad()
def sample(net, n):
    x = torch.randn(n, 1, 16, 16)
    for i in reversed(range(timesteps)):
        eps = net(x, torch.full((n,), i))
        x = (x - betas[i] / (1 - alphas_bar[i]).sqrt() * eps) / (1 - betas[i]).sqrt()
        if i > 0:
            x = x + betas[i].sqrt() * torch.randn_like(x)
    return x.clamp(-1, 1)


if __name__ == "__main__":
    model = UNet()
    ema_model = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(beta1, beta2), weight_decay=weight_decay)
    for iter_num in range(max_iters):
        lr = get_lr(iter_num)
        for param_group in optimizer.param_groups:
            param_group["lr"] = lr
        for micro_step in range(gradient_accumulation_steps):
            loss = diffusion_loss(model, *get_batch("train")) / gradient_accumulation_steps
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        update_ema(ema_model, model, ema_decay)
        if (iter_num + 1) % eval_interval == 0:
            losses = estimate_loss(ema_model)
            print(f"iter {iter_num + 1}: train {losses['train']:.4f} val {losses['val']:.4f} lr {lr:.5f}")
    pictures = sample(ema_model, 8)
    print(f"samples: mean {pictures.mean():.2f} std {pictures.std():.2f}")
