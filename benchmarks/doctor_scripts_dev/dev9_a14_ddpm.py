import copy
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from toydata import draw_digits


def cycle(dl):
    while True:
        for batch in dl:
            yield batch


def extract(a, t, shape):
    return a.gather(-1, t).reshape(t.shape[0], *((1,) * (len(shape) - 1)))


def exists(x):
    return x is not None


class SinusoidalPosEmb(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, t):
        half = self.dim // 2
        freq = torch.exp(torch.arange(half) * -(math.log(1000) / (half - 1)))
        emb = t[:, None] * freq[None]
        return torch.cat((emb.sin(), emb.cos()), dim=-1)


class Denoiser(nn.Module):
    def __init__(self, pixels=256, width=320, dim=32):
        super().__init__()
        self.time_mlp = nn.Sequential(SinusoidalPosEmb(dim), nn.Linear(dim, width), nn.SiLU(), nn.Linear(width, width))
        self.inp = nn.Linear(pixels, width)
        self.blocks = nn.ModuleList([nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
                                     for _ in range(3)])
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, pixels))

    def forward(self, x, t):
        h, emb = self.inp(x.flatten(1)), self.time_mlp(t)
        for block in self.blocks:
            h = h + block(h + emb)
        return self.out(h).view_as(x)


class GaussianDiffusion(nn.Module):
    def __init__(self, model, timesteps=60):
        super().__init__()
        self.model, self.num_timesteps = model, timesteps
        betas = torch.linspace(1e-3, 0.15, timesteps)
        alphas = 1.0 - betas
        alphas_cumprod = torch.cumprod(alphas, dim=0)
        register = self.register_buffer
        register("betas", betas)
        register("alphas", alphas)
        register("sqrt_alphas_cumprod", alphas_cumprod.sqrt())
        register("sqrt_one_minus_alphas_cumprod", (1 - alphas_cumprod).sqrt())

    def q_sample(self, x_start, t, noise):
        return (extract(self.sqrt_alphas_cumprod, t, x_start.shape) * x_start
                + extract(self.sqrt_one_minus_alphas_cumprod, t, x_start.shape) * noise)

    def forward(self, img, t=None, noise=None):
        x_start = img * 2 - 1
        t = t if exists(t) else torch.randint(0, self.num_timesteps, (len(img),)).long()
        noise = noise if exists(noise) else torch.randn_like(x_start)
        x = self.q_sample(x_start, t, noise)
        model_out = self.model(x, t)
        return F.mse_loss(model_out, x_start)

    @torch.inference_mode()
    def sample(self, count):
        img = torch.randn(count, 1, 16, 16)
        for step in reversed(range(self.num_timesteps)):
            t = torch.full((count,), step)
            x_start = self.model(img, t).clamp(-1, 1)
            eps = (img - self.sqrt_alphas_cumprod[step] * x_start) / self.sqrt_one_minus_alphas_cumprod[step]
            img = (img - self.betas[step] / self.sqrt_one_minus_alphas_cumprod[step] * eps) / self.alphas[step].sqrt()
            if step > 0:
                img = img + self.betas[step].sqrt() * torch.randn_like(img)
        return ((img.clamp(-1, 1) + 1) / 2).squeeze(1)


class EMA:
    def __init__(self, model, beta):
        self.model, self.beta, self.steps = copy.deepcopy(model).requires_grad_(False), beta, 0

    @torch.no_grad()
    def update(self, model):
        self.steps += 1
        beta = min(self.beta, self.steps / (self.steps + 10))
        for e, p in zip(self.model.parameters(), model.parameters()):
            e.lerp_(p, 1 - beta)


class Trainer:
    def __init__(self, diffusion, images, *, train_batch_size=64, train_lr=1e-3, train_num_steps=900, ema_decay=0.99):
        self.model, self.steps = diffusion, train_num_steps
        self.dl = cycle(torch.utils.data.DataLoader(images, batch_size=train_batch_size, shuffle=True, drop_last=True))
        self.opt = torch.optim.Adam(diffusion.parameters(), lr=train_lr, betas=(0.9, 0.99))
        self.ema = EMA(diffusion, ema_decay)

    def train(self, held_out):
        g = torch.Generator().manual_seed(0)
        t = torch.randint(0, self.model.num_timesteps, (len(held_out),), generator=g)
        noise = torch.randn(held_out.shape, generator=g)
        running = 0.0
        for step in range(1, self.steps + 1):
            data = next(self.dl)
            loss = self.model(data)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.opt.step()
            self.opt.zero_grad()
            self.ema.update(self.model)
            running += loss.item()
            if step % 100 == 0:
                with torch.no_grad():
                    valid = self.ema.model(held_out, t, noise).item()
                print(f"step {step} loss {running / 100:.4f} held out {valid:.4f}")
                running = 0.0


def nearest(samples, reference):
    """Mean squared distance of each sample to the nearest real image."""
    return torch.cdist(samples.flatten(1), reference.flatten(1)).amin(1).pow(2).mean().item() / 256


if __name__ == "__main__":
    torch.manual_seed(4)
    images = draw_digits(1200, seed=40, noise=0.02, shift=1)[0].float() / 255
    held_out = draw_digits(200, seed=41, noise=0.02, shift=1)[0].float() / 255
    trainer = Trainer(GaussianDiffusion(Denoiser()), images)
    trainer.train(held_out)
    samples = trainer.ema.model.sample(100)
    print(f"distance to the nearest image: samples {nearest(samples, images):.4f}, "
          f"held out {nearest(held_out, images):.4f}, noise {nearest(torch.rand(100, 16, 16), images):.4f}")
