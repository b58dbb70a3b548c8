# %% [markdown]
# # Diffusion of small digits
# A U-Net of two levels learns to take noise away; samples are drawn by DDIM.

# %%
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from toydata import draw_digits

torch.manual_seed(0)

# %% images between -1 and 1
train_x = draw_digits(1000, seed=0, noise=0.05)[0].float() / 127.5 - 1
held_x = draw_digits(200, seed=1, noise=0.05)[0].float() / 127.5 - 1
print(train_x.shape, held_x.shape, train_x.mean().item(), train_x.std().item())

# %% cosine schedule
T = 100
grid = torch.arange(T + 1) / T
curve = torch.cos((grid + 0.008) / 1.008 * math.pi / 2) ** 2
alpha_bar = (curve[1:] / curve[0]).clamp(1e-4, 0.9999)


def scales(t):
    return alpha_bar[t].sqrt().view(-1, 1, 1, 1), (1 - alpha_bar[t]).sqrt().view(-1, 1, 1, 1)


def add_noise(x0, noise, t):
    a, s = scales(t)
    return a * x0 + s * noise


def wanted(x0, noise, t):
    return noise


def clean_from(xt, output, t):
    a, s = scales(t)
    return ((xt - s * output) / a).clamp(-1, 1)


# %% the network
def time_features(t, dim=32):
    frequencies = torch.exp(torch.linspace(0, math.log(1000), dim // 2))
    angles = t[:, None].float() / T * frequencies[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Block(nn.Module):
    def __init__(self, inside, outside, time_dim=64):
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 3, padding=1)
        self.norm = nn.GroupNorm(4, outside)
        self.time = nn.Linear(time_dim, outside)

    def forward(self, x, emb):
        return F.silu(self.norm(self.conv(x)) + self.time(emb)[:, :, None, None])


class UNet(nn.Module):
    def __init__(self, width=20, time_dim=64):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(32, time_dim), nn.SiLU(), nn.Linear(time_dim, time_dim), nn.SiLU())
        self.inlet = nn.Conv2d(1, width, 3, padding=1)
        self.fine = Block(width, width)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.coarse1 = Block(2 * width, 2 * width)
        self.coarse2 = Block(2 * width, 2 * width)
        self.shrink = nn.Conv2d(2 * width, width, 1)
        self.merge = Block(2 * width, width)
        self.outlet = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x, t):
        emb = self.embed(time_features(t))
        fine = self.fine(self.inlet(x), emb)
        coarse = self.coarse1(self.down(fine), emb)
        coarse = coarse + self.coarse2(coarse, emb)
        up = F.interpolate(self.shrink(coarse), scale_factor=2.0, mode="nearest")
        return self.outlet(self.merge(torch.cat([fine, up], dim=1), emb))


# %% how good is it? The same noise and times at every look
probe = torch.Generator().manual_seed(99)
held_t = torch.randint(0, T, (len(held_x),), generator=probe)
held_noise = torch.randn(held_x.shape, generator=probe)


@torch.no_grad()
def held_out_loss():
    output = model(add_noise(held_x, held_noise, held_t), held_t)
    return F.mse_loss(output, wanted(held_x, held_noise, held_t)).item()


# %%
model = UNet()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
batch, epochs = 50, 9
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
    optimizer, T_max=epochs * len(train_x) // batch, eta_min=3e-4
)
print("before:", held_out_loss())
for epoch in range(epochs):
    total = 0.0
    for picked in torch.randperm(len(train_x)).split(batch):
        x0 = train_x[picked]
        t = torch.randint(0, T, (len(x0),))
        noise = torch.randn_like(x0)
        loss = F.mse_loss(model(add_noise(x0, noise, t), t), wanted(x0, noise, t))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        total += loss.detach() * len(x0)
    print(f"epoch {epoch}  train {float(total) / len(train_x):.4f}  held out {held_out_loss():.4f}")


# %% samples
@torch.no_grad()
def sample(count):
    x = torch.randn(count, 1, 16, 16)
    for step in reversed(range(T)):
        t = torch.full((count,), step)
        a, s = scales(t)
        x0 = clean_from(x, model(x, t), t)
        if step == 0:
            return x0
        noise = (x - a * x0) / s
        x = add_noise(x0, noise, t - 1)


drawn = sample(16)
print("bright pixels: samples", (drawn > 0).float().mean().item(), "digits", (held_x > 0).float().mean().item())
for row in drawn[0, 0]:
    print("".join("#" if value > 0 else "." for value in row.tolist()))
