"""A minimal DDPM on a two-dimensional point cloud, tutorial style."""
import argparse
import copy
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


def spiral_points(n, seed):
    """Points of a spiral, in the pixel coordinates of a 400 x 400 drawing."""
    rng = np.random.default_rng(seed)
    r = np.sqrt(rng.uniform(0.05, 1, n))
    phi = 3.2 * math.pi * r
    xy = np.stack([r * np.cos(phi), r * np.sin(phi)], axis=1) + rng.normal(0, 0.025, (n, 2))
    return torch.tensor(200 + 150 * xy, dtype=torch.float32)


class SinusoidalEmbedding(nn.Module):
    def __init__(self, size, scale=1.0):
        super().__init__()
        self.size = size
        self.scale = scale

    def forward(self, x):
        x = x.float() * self.scale
        half = self.size // 2
        freqs = torch.exp(-math.log(10000.0) / (half - 1) * torch.arange(half))
        emb = x.unsqueeze(-1) * freqs.unsqueeze(0)
        return torch.cat((torch.sin(emb), torch.cos(emb)), dim=-1)


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.ff = nn.Linear(size, size)
        self.act = nn.GELU()

    def forward(self, x):
        return x + self.act(self.ff(x))


class MLP(nn.Module):
    def __init__(self, hidden_size=96, hidden_layers=3, emb_size=32):
        super().__init__()
        self.time_mlp = SinusoidalEmbedding(emb_size)
        self.input_mlp1 = SinusoidalEmbedding(emb_size, scale=25.0)
        self.input_mlp2 = SinusoidalEmbedding(emb_size, scale=25.0)
        concat_size = 3 * emb_size + 2
        layers = [nn.Linear(concat_size, hidden_size), nn.GELU()]
        for _ in range(hidden_layers):
            layers.append(Block(hidden_size))
        layers.append(nn.Linear(hidden_size, 2))
        self.joint_mlp = nn.Sequential(*layers)

    def forward(self, x, t):
        x1_emb = self.input_mlp1(x[:, 0])
        x2_emb = self.input_mlp2(x[:, 1])
        x = torch.cat((x, x1_emb, x2_emb, self.time_mlp(t)), dim=-1)
        return self.joint_mlp(x)


class NoiseScheduler:
    def __init__(self, num_timesteps, beta_start=1e-4, beta_end=0.12):
        self.num_timesteps = num_timesteps
        self.betas = torch.linspace(beta_start, beta_end, num_timesteps)
        self.alphas = 1.0 - self.betas
        self.alphas_cumprod = torch.cumprod(self.alphas, dim=0)
        self.alphas_cumprod_prev = F.pad(self.alphas_cumprod[:-1], (1, 0), value=1.0)

    def add_noise(self, x_start, noise, t):
        a = self.alphas_cumprod[t].sqrt().view(-1, 1)
        s = (1 - self.alphas_cumprod[t]).sqrt().view(-1, 1)
        return a * x_start + s * noise

    def step(self, eps, t, x_t):
        beta, alpha, bar = self.betas[t], self.alphas[t], self.alphas_cumprod[t]
        mean = (x_t - beta / (1 - bar).sqrt() * eps) / alpha.sqrt()
        if t == 0:
            return mean
        variance = beta * (1 - self.alphas_cumprod_prev[t]) / (1 - bar)
        return mean + variance.sqrt() * torch.randn_like(x_t)


class EMA:
    def __init__(self, model, decay):
        self.decay = decay
        self.shadow = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for s, p in zip(self.shadow.parameters(), model.parameters()):
            s.lerp_(p, 1 - self.decay)


@torch.no_grad()
def sample(model, scheduler, n):
    model.eval()
    x = torch.randn(n, 2)
    for t in reversed(range(scheduler.num_timesteps)):
        eps = model(x, torch.full((n,), t, dtype=torch.long))
        x = scheduler.step(eps, t, x)
    return x


def sliced_wasserstein(a, b, n_proj=64, seed=0):
    g = torch.Generator().manual_seed(seed)
    theta = F.normalize(torch.randn(2, n_proj, generator=g), dim=0)
    pa, pb = (a @ theta).sort(dim=0).values, (b @ theta).sort(dim=0).values
    return (pa - pb).abs().mean().item()


def nearest_distance(a, b):
    """How far, on average, a generated point lies from the held-out cloud (in pixels)."""
    return torch.cdist(a, b).min(dim=1).values.mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--num_steps", type=int, default=3000)
    parser.add_argument("--train_batch_size", type=int, default=256)
    parser.add_argument("--eval_samples", type=int, default=2000)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--num_timesteps", type=int, default=50)
    parser.add_argument("--ema_decay", type=float, default=0.995)
    parser.add_argument("--seed", type=int, default=0)
    config = parser.parse_args()
    torch.manual_seed(config.seed)

    points = spiral_points(8000, seed=1)
    held_out = spiral_points(config.eval_samples, seed=2)
    center, scale = points.mean(dim=0), points.std(dim=0)
    dataset = (points - center) / scale

    model = MLP()
    ema = EMA(model, config.ema_decay)
    noise_scheduler = NoiseScheduler(config.num_timesteps)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
    lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.num_steps)

    print("Training model...")
    losses = []
    for step in range(1, config.num_steps + 1):
        model.train()
        batch = dataset[torch.randint(len(dataset), (config.train_batch_size,))]
        noise = torch.randn(batch.shape)
        timesteps = torch.randint(0, noise_scheduler.num_timesteps, (batch.shape[0],)).long()
        noisy = noise_scheduler.add_noise(batch, noise, timesteps)
        noise_pred = model(noisy, timesteps)
        loss = F.mse_loss(noise_pred, noise)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        lr_scheduler.step()
        ema.update(model)
        losses.append(loss.detach().item())
        if step % 500 == 0:
            print(f"step {step} loss {np.mean(losses[-500:]):.4f}")

    generated = sample(ema.shadow, noise_scheduler, config.eval_samples) * scale + center
    gaussian = torch.randn(config.eval_samples, 2) * points.std(dim=0) + points.mean(dim=0)
    print(f"a Gaussian of the same moments: sliced Wasserstein {sliced_wasserstein(gaussian, held_out):.3f} px, "
          f"nearest {nearest_distance(gaussian, held_out):.3f} px")
    print(f"val sliced Wasserstein: {sliced_wasserstein(generated, held_out):.3f} px  "
          f"nearest: {nearest_distance(generated, held_out):.3f} px")


if __name__ == "__main__":
    main()
