"""Denoising diffusion on 16 x 16 digits (100 steps, cosine schedule), a short version of denoising-diffusion-pytorch."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import Adam
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset, random_split

from toydata import Digits


class SinusoidalPosEmb(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, t):
        half = self.dim // 2
        rate = torch.exp(-math.log(1000.0) * torch.arange(half) / (half - 1))
        emb = t.float()[:, None] * rate[None, :]
        return torch.cat([emb.sin(), emb.cos()], dim=-1)


class ResnetBlock(nn.Module):
    def __init__(self, dim, dim_out, time_dim):
        super().__init__()
        self.mlp = nn.Linear(time_dim, dim_out)
        self.conv1 = nn.Conv2d(dim, dim_out, 3, padding=1)
        self.norm1 = nn.GroupNorm(4, dim_out)
        self.conv2 = nn.Conv2d(dim_out, dim_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(4, dim_out)
        self.res_conv = nn.Conv2d(dim, dim_out, 1) if dim != dim_out else nn.Identity()

    def forward(self, x, emb):
        h = F.silu(self.norm1(self.conv1(x)))
        h = h + self.mlp(emb)[:, :, None, None]
        h = F.silu(self.norm2(self.conv2(h)))
        return h + self.res_conv(x)


class Unet(nn.Module):
    """Works on patches of 2 x 2 pixels, which are taken apart and put together again by pixel shuffles."""

    def __init__(self, dim=24, time_dim=48):
        super().__init__()
        self.time_mlp = nn.Sequential(
            SinusoidalPosEmb(dim), nn.Linear(dim, time_dim), nn.SiLU(), nn.Linear(time_dim, time_dim), nn.SiLU()
        )
        self.patches = nn.PixelUnshuffle(2)
        self.init_conv = nn.Conv2d(4, dim, 3, padding=1)
        self.block1 = ResnetBlock(dim, dim, time_dim)
        self.down = nn.Conv2d(dim, 2 * dim, 3, stride=2, padding=1)
        self.block2 = ResnetBlock(2 * dim, 2 * dim, time_dim)
        self.up = nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(2 * dim, dim, 3, padding=1))
        self.block3 = ResnetBlock(2 * dim, dim, time_dim)
        self.final_conv = nn.Conv2d(dim, 4, 3, padding=1)
        self.pixels = nn.PixelShuffle(2)

    def forward(self, x, t):
        emb = self.time_mlp(t)
        x = self.block1(self.init_conv(self.patches(x)), emb)
        h = self.block2(self.down(x), emb)
        x = self.block3(torch.cat([self.up(h), x], dim=1), emb)
        return self.pixels(self.final_conv(x))


def cosine_beta_schedule(timesteps, s=0.008):
    steps = torch.linspace(0, timesteps, timesteps + 1, dtype=torch.float64)
    alphas_cumprod = torch.cos((steps / timesteps + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - alphas_cumprod[1:] / alphas_cumprod[:-1]).clamp(max=0.999)


class GaussianDiffusion(nn.Module):
    def __init__(self, net, image_size, timesteps=100):
        super().__init__()
        self.net, self.image_size, self.num_timesteps = net, image_size, timesteps
        betas = cosine_beta_schedule(timesteps)
        alphas_cumprod = (1 - betas).cumprod(0)
        previous = F.pad(alphas_cumprod[:-1], (1, 0), value=1.0)
        constants = {
            "signal": alphas_cumprod.sqrt(),
            "sigma": (1 - alphas_cumprod).sqrt(),
            "mean_start": betas * previous.sqrt() / (1 - alphas_cumprod),
            "mean_now": (1 - previous) * (1 - betas).sqrt() / (1 - alphas_cumprod),
            "deviation": (betas * (1 - previous) / (1 - alphas_cumprod)).sqrt(),
        }
        for name, values in constants.items():
            self.register_buffer(name, values.float())

    def p_losses(self, x_start, t, noise):
        signal, sigma = self.signal[t][:, None, None, None], self.sigma[t][:, None, None, None]
        x = signal * x_start + sigma * noise
        return F.mse_loss(self.net(x, t), noise)

    def forward(self, x_start):
        t = torch.randint(0, self.num_timesteps, (len(x_start),))
        return self.p_losses(x_start, t, torch.randn_like(x_start))

    @torch.no_grad()
    def sample(self, count):
        x = torch.randn(count, 1, self.image_size, self.image_size)
        for step in reversed(range(self.num_timesteps)):
            t = torch.full((count,), step)
            noise = self.net(x, t)
            start = ((x - self.sigma[step] * noise) / self.signal[step]).clamp(-1, 1)
            x = self.mean_start[step] * start + self.mean_now[step] * x
            if step > 0:
                x = x + self.deviation[step] * torch.randn_like(x)
        return x


@torch.no_grad()
def validation_loss(diffusion, images):
    diffusion.eval()
    generator = torch.Generator().manual_seed(0)  # the same noise and times whenever it is measured
    noise = torch.randn(images.shape, generator=generator)
    return diffusion.p_losses(images, torch.arange(len(images)) % diffusion.num_timesteps, noise).item()


def main():
    torch.manual_seed(11)
    digits = Digits(train=True)
    dataset = TensorDataset(digits.data.float() / 127.5 - 1)
    train_set, val_set = random_split(dataset, [1100, 100])
    loader = DataLoader(train_set, batch_size=32, shuffle=True, drop_last=True)
    val_images = torch.stack([image for (image,) in val_set])

    diffusion = GaussianDiffusion(Unet(), image_size=16)
    opt = Adam(diffusion.parameters(), lr=2e-3, betas=(0.9, 0.99))
    ema = AveragedModel(diffusion, multi_avg_fn=get_ema_multi_avg_fn(0.97))
    print(f"before training: val loss {validation_loss(diffusion, val_images):.4f}")

    for epoch in range(12):
        diffusion.train()
        total = torch.zeros(())
        for (images,) in loader:
            loss = diffusion(images)
            loss.backward()
            nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
            opt.step()
            opt.zero_grad()
            ema.update_parameters(diffusion)
            total += loss.detach()
        print(
            f"epoch {epoch + 1}: loss {total.item() / len(loader):.4f} "
            f"val loss {validation_loss(diffusion, val_images):.4f} (EMA {validation_loss(ema.module, val_images):.4f})"
        )

    samples = ema.module.sample(32)
    nearest = torch.cdist(samples.flatten(1), val_images.flatten(1)).min(1).values.mean()
    print(f"samples: mean {samples.mean():.3f} deviation {samples.std():.3f} to the nearest digit {nearest:.2f}")
    print(f"digits:  mean {val_images.mean():.3f} deviation {val_images.std():.3f}")


if __name__ == "__main__":
    main()
