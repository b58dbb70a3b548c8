"""DDPM on two moons, for a cluster that requeues: each job goes on from last.pt and stops when its time is up."""
import os
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import make_moons
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

STEPS = 60
BETAS = torch.linspace(1e-4, 0.15, STEPS)
ALPHAS = 1.0 - BETAS
ALPHA_BAR = torch.cumprod(ALPHAS, dim=0)
SIGNAL, NOISE = ALPHA_BAR.sqrt(), (1 - ALPHA_BAR).sqrt()

TOTAL_STEPS = 1800
STEPS_PER_JOB = 900
WARMUP = 100
BATCH = 256
PEAK_LR = 2e-3


def load_points():
    points, _ = make_moons(2400, noise=0.05, random_state=0)
    points = torch.tensor(points, dtype=torch.float32)
    points = points[torch.randperm(len(points), generator=torch.Generator().manual_seed(0))]
    train, held_out = points[:2000], points[2000:]
    mean, std = train.mean(dim=0), train.std(dim=0)
    return (train - mean) / std, (held_out - mean) / std


class Denoiser(nn.Module):
    def __init__(self, width=96, time_dim=32):
        super().__init__()
        frequencies = torch.exp(torch.linspace(0, 4, time_dim // 2))
        self.register_buffer("frequencies", frequencies)
        self.entry = nn.Linear(2, width)
        self.time = nn.Sequential(nn.Linear(time_dim, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(
            [nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)) for _ in range(3)]
        )
        self.exit = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2))

    def forward(self, x, t):
        angle = (t.float() / STEPS)[:, None] * self.frequencies
        when = self.time(torch.cat([angle.sin(), angle.cos()], dim=1))
        h = self.entry(x)
        for block in self.blocks:
            h = h + block(h + when)
        return self.exit(h)


def diffusion_loss(net, x0, t, noise):
    noisy = SIGNAL[t, None] * x0 + NOISE[t, None] * noise
    target = noise
    return F.mse_loss(net(noisy, t), target)


@torch.no_grad()
def validation_loss(net, held_out):
    generator = torch.Generator().manual_seed(123)
    x0 = held_out.repeat(4, 1)
    t = torch.randint(0, STEPS, (len(x0),), generator=generator)
    noise = torch.randn(x0.shape, generator=generator)
    net.eval()
    return diffusion_loss(net, x0, t, noise).item()


@torch.no_grad()
def sample(net, count):
    net.eval()
    x = torch.randn(count, 2)
    for step in reversed(range(STEPS)):
        t = torch.full((count,), step)
        noise = net(x, t)
        x = (x - BETAS[step] / NOISE[step] * noise) / ALPHAS[step].sqrt()
        if step > 0:
            x = x + BETAS[step].sqrt() * torch.randn_like(x)
    return x


def lr_factor(step):
    return min(1.0, (step + 1) / WARMUP) * max(0.02, 1.0 - step / TOTAL_STEPS)


def run_job(folder, train, held_out):
    """Returns True when training is over."""
    path = os.path.join(folder, "last.pt")
    net = Denoiser()
    ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK_LR, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_factor)
    first = 0
    if os.path.exists(path):
        saved = torch.load(path)
        net.load_state_dict(saved["net"])
        ema.load_state_dict(saved["ema"])
        optimizer.load_state_dict(saved["optimizer"])
        scheduler.load_state_dict(saved["scheduler"])
        torch.set_rng_state(saved["rng"])
        first = saved["step"]
        print(f"goes on at step {first}")

    last = min(first + STEPS_PER_JOB, TOTAL_STEPS)
    running = []
    for step in range(first, last):
        net.train()
        x0 = train[torch.randint(0, len(train), (BATCH,))]
        t = torch.randint(0, STEPS, (BATCH,))
        loss = diffusion_loss(net, x0, t, torch.randn_like(x0))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        ema.update_parameters(net)
        running.append(loss.item())
        if (step + 1) % 300 == 0:
            print(f"step {step + 1}: loss {sum(running) / len(running):.4f}, held out (EMA) {validation_loss(ema, held_out):.4f}")
            running = []

    torch.save({"net": net.state_dict(), "ema": ema.state_dict(), "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(), "rng": torch.get_rng_state(), "step": last}, path)
    if last < TOTAL_STEPS:
        return False
    samples = sample(ema, 400)
    print(f"distance to the nearest training point: samples {torch.cdist(samples, train).amin(1).mean():.3f}, "
          f"held out {torch.cdist(held_out, train).amin(1).mean():.3f}")
    return True


if __name__ == "__main__":
    torch.manual_seed(0)
    train_points, held_out_points = load_points()
    with tempfile.TemporaryDirectory() as work:
        while not run_job(work, train_points, held_out_points):
            print("time is up, requeued")
