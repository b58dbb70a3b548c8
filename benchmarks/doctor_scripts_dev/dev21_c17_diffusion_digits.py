"""Denoising diffusion (DDPM) of 16 x 16 digits with a small U-Net; the averaged network is judged and draws."""

import copy
import math

import torch
from torch import nn
from torch.nn import functional as F

from toydata import draw_digits

STEPS = 200
EPOCHS = 13
BATCH = 32


class Diffusion:
    def __init__(self, steps):
        self.steps = steps
        self.betas = torch.linspace(1e-4, 0.05, steps)
        self.alphas = 1 - self.betas
        self.alpha_bars = torch.cumprod(self.alphas, dim=0)

    def add_noise(self, x, t, noise):
        bar = self.alpha_bars[t].view(-1, 1, 1, 1)
        return bar.sqrt() * x + (1 - bar).sqrt() * noise

    @torch.no_grad()
    def sample(self, model, count):
        x = torch.randn(count, 1, 16, 16)
        for step in reversed(range(self.steps)):
            t = torch.full((count,), step)
            noise = model(x, t)
            x = (x - self.betas[step] / (1 - self.alpha_bars[step]).sqrt() * noise) / self.alphas[step].sqrt()
            if step > 0:
                x = x + self.betas[step].sqrt() * torch.randn_like(x)
        return x


def time_embedding(t, width):
    half = width // 2
    frequencies = torch.exp(-math.log(1000) * torch.arange(half) / half)
    angles = t.float()[:, None] * frequencies[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class ResBlock(nn.Module):
    def __init__(self, inputs, outputs, time_width):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(4, inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(time_width, outputs)
        self.norm2, self.conv2 = nn.GroupNorm(4, outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time(emb)[:, :, None, None]
        return self.conv2(F.silu(self.norm2(h))) + self.skip(x)


class UNet(nn.Module):
    def __init__(self, base=16, time_width=64):
        super().__init__()
        self.time_mlp = nn.Sequential(nn.Linear(32, time_width), nn.SiLU(), nn.Linear(time_width, time_width), nn.SiLU())
        self.inp = nn.Conv2d(1, base, 3, padding=1)
        self.block1 = ResBlock(base, base, time_width)
        self.down = nn.Conv2d(base, 2 * base, 3, stride=2, padding=1)
        self.block2 = ResBlock(2 * base, 2 * base, time_width)
        self.down2 = nn.Conv2d(2 * base, 4 * base, 3, stride=2, padding=1)
        self.middle = ResBlock(4 * base, 4 * base, time_width)
        self.block3 = ResBlock(4 * base + 2 * base, 2 * base, time_width)
        self.block4 = ResBlock(2 * base + base, base, time_width)
        self.norm = nn.GroupNorm(4, base)
        self.out = nn.Conv2d(base, 1, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x, t):
        emb = self.time_mlp(time_embedding(t, 32))
        h1 = self.block1(self.inp(x), emb)
        h2 = self.block2(self.down(h1), emb)
        h = self.middle(self.down2(h2), emb)
        h = self.block3(torch.cat([F.interpolate(h, scale_factor=2), h2], dim=1), emb)
        h = self.block4(torch.cat([F.interpolate(h, scale_factor=2), h1], dim=1), emb)
        return self.out(F.silu(self.norm(h)))


@torch.no_grad()
def update_average(average, model, decay):
    for a, p in zip(average.parameters(), model.parameters()):
        a.lerp_(p, 1 - decay)


def main():
    torch.manual_seed(0)
    train = draw_digits(2560, seed=0)[0].float() / 127.5 - 1
    valid = draw_digits(400, seed=1)[0].float() / 127.5 - 1
    diffusion = Diffusion(STEPS)

    # the same times and noise each epoch, so that epochs can be compared
    generator = torch.Generator().manual_seed(123)
    valid_t = torch.randint(0, STEPS, (len(valid),), generator=generator)
    valid_noise = torch.randn(valid.shape, generator=generator)

    model = UNet()
    average = copy.deepcopy(model).requires_grad_(False).eval()
    optimizer = torch.optim.Adam(model.parameters(), lr=1.5e-3)
    updates = 0
    for epoch in range(EPOCHS):
        model.train()
        losses = []
        for index in torch.randperm(len(train)).split(BATCH):
            x = train[index]
            t = torch.randint(0, STEPS, (len(x),))
            noise = torch.randn_like(x)
            loss = F.mse_loss(model(diffusion.add_noise(x, t, noise), t), noise)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            updates += 1
            update_average(average, model, min(0.99, updates / (updates + 10)))
            losses.append(loss.item())
        with torch.no_grad():
            parts = [
                F.mse_loss(average(diffusion.add_noise(x, t, noise), t), noise, reduction="sum").item()
                for x, t, noise in zip(valid.split(100), valid_t.split(100), valid_noise.split(100))
            ]
        print(f"epoch {epoch:2d}  train {sum(losses) / len(losses):.4f}  valid {sum(parts) / valid.numel():.4f}")

    samples = diffusion.sample(average, 32).clamp(-1, 1)
    print(f"pixels: drawn {samples.mean():.3f} +- {samples.std():.3f}, real {valid.mean():.3f} +- {valid.std():.3f}")
    for row in torch.cat(list(samples[:4, 0]), dim=1):
        print("".join(" .:*#"[min(4, int((value + 1) * 2.5))] for value in row.tolist()))


if __name__ == "__main__":
    main()
