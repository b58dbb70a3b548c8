# Denoising diffusion on 16 x 16 digits: https://arxiv.org/abs/2006.11239 in one file.
import copy
import os
import tempfile

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from toydata import Digits

T = 100
EMA_DECAY = 0.97
EPOCHS = 5
BATCH = 40


def timestep_embedding(t, dim):
    half = dim // 2
    freqs = torch.exp(-torch.log(torch.tensor(1000.0)) * torch.arange(half) / half)
    args = t[:, None].float() * freqs[None]
    return torch.cat([args.cos(), args.sin()], dim=-1)


class ResBlock(nn.Module):
    def __init__(self, cin, cout, emb_dim):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, cin), nn.Conv2d(cin, cout, 3, padding=1)
        self.emb = nn.Linear(emb_dim, cout)
        self.norm2, self.conv2 = nn.GroupNorm(8, cout), nn.Conv2d(cout, cout, 3, padding=1)
        self.skip = nn.Identity() if cin == cout else nn.Conv2d(cin, cout, 1)

    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.emb(emb)[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + self.skip(x)


class UNet(nn.Module):
    def __init__(self, ch=16, emb_dim=64):
        super().__init__()
        self.emb_dim = emb_dim
        self.time = nn.Sequential(nn.Linear(emb_dim, emb_dim), nn.SiLU(), nn.Linear(emb_dim, emb_dim), nn.SiLU())
        self.inp = nn.Conv2d(1, ch, 3, padding=1)
        self.down1 = ResBlock(ch, ch, emb_dim)
        self.pool1 = nn.Conv2d(ch, 2 * ch, 3, stride=2, padding=1)
        self.down2 = ResBlock(2 * ch, 2 * ch, emb_dim)
        self.pool2 = nn.Conv2d(2 * ch, 2 * ch, 3, stride=2, padding=1)
        self.mid = ResBlock(2 * ch, 2 * ch, emb_dim)
        self.up2 = ResBlock(4 * ch, 2 * ch, emb_dim)
        self.up1 = ResBlock(3 * ch, ch, emb_dim)
        self.norm, self.out = nn.GroupNorm(8, ch), nn.Conv2d(ch, 1, 3, padding=1)

    def forward(self, x, t):
        emb = self.time(timestep_embedding(t, self.emb_dim))
        h1 = self.down1(self.inp(x), emb)
        h2 = self.down2(self.pool1(h1), emb)
        h = self.mid(self.pool2(h2), emb)
        h = self.up2(torch.cat([F.interpolate(h, scale_factor=2), h2], 1), emb)
        h = self.up1(torch.cat([F.interpolate(h, scale_factor=2), h1], 1), emb)
        return self.out(F.silu(self.norm(h)))


class Diffusion:
    def __init__(self, timesteps):
        self.timesteps = timesteps
        self.betas = torch.linspace(1e-4, 0.1, timesteps)
        self.alphas = 1 - self.betas
        self.alphas_bar = torch.cumprod(self.alphas, 0)

    def q_sample(self, x0, t, noise):
        ab = self.alphas_bar[t].view(-1, 1, 1, 1)
        return ab.sqrt() * x0 + (1 - ab).sqrt() * noise

    def p_losses(self, net, x0, t, noise):
        prediction = net(self.q_sample(x0, t, noise), t)
        return F.mse_loss(prediction, noise)

    @torch.no_grad()
    def p_sample_loop(self, net, shape):
        x = torch.randn(shape)
        for i in reversed(range(self.timesteps)):
            prediction = net(x, torch.full((shape[0],), i))
            beta, alpha, ab = self.betas[i], self.alphas[i], self.alphas_bar[i]
            ab_prev = self.alphas_bar[i - 1] if i > 0 else torch.tensor(1.0)
            x0 = (x - (1 - ab).sqrt() * prediction) / ab.sqrt()
            x0 = x0.clamp(-1, 1)
            mean = beta * ab_prev.sqrt() / (1 - ab) * x0 + (1 - ab_prev) * alpha.sqrt() / (1 - ab) * x
            variance = beta * (1 - ab_prev) / (1 - ab)
            x = mean + variance.sqrt() * torch.randn(shape) if i > 0 else mean
        return x


def ema_update(ema_net, net, decay):
    with torch.no_grad():
        for e, p in zip(ema_net.parameters(), net.parameters()):
            e.lerp_(p, 1 - decay)


def validation_loss(diffusion, net, loader):
    # the same noise and the same times at each call
    g = torch.Generator().manual_seed(99)
    total, count = 0.0, 0
    with torch.no_grad():
        for x0, _ in loader:
            t = torch.randint(0, T, (len(x0),), generator=g)
            noise = torch.randn(x0.shape, generator=g)
            total += diffusion.p_losses(net, x0, t, noise).item() * len(x0)
            count += len(x0)
    return total / count


def main():
    torch.manual_seed(1)

    def to_minus_one_one(image):
        return image.float() / 127.5 - 1

    train_loader = DataLoader(Digits(train=True, transform=to_minus_one_one), BATCH, shuffle=True, drop_last=True)
    val_loader = DataLoader(Digits(train=False, transform=to_minus_one_one), 100)
    net = UNet()
    ema_net = copy.deepcopy(net).requires_grad_(False)
    diffusion = Diffusion(T)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    for epoch in range(EPOCHS):
        running = 0.0
        for x0, _ in train_loader:
            t = torch.randint(0, T, (len(x0),))
            loss = diffusion.p_losses(net, x0, t, torch.randn_like(x0))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            ema_update(ema_net, net, EMA_DECAY)
            running += loss.item()
        val = validation_loss(diffusion, ema_net, val_loader)
        print(f"epoch {epoch}: train {running / len(train_loader):.4f}  val (ema) {val:.4f}")

    samples = (diffusion.p_sample_loop(ema_net, (16, 1, 16, 16)) + 1) / 2
    path = os.path.join(tempfile.mkdtemp(), "samples.pt")
    torch.save({"samples": samples, "net": ema_net.state_dict()}, path)
    print(f"samples: mean {samples.mean().item():.3f}, saved to {path}")


if __name__ == "__main__":
    main()
