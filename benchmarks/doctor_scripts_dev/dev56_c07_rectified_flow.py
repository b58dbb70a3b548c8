"""A rectified flow that learns to turn noise into points of a ring of clusters, given the number of the cluster."""

import math
from types import SimpleNamespace

import torch
import torch.nn as nn

CONFIG = SimpleNamespace(clusters=8, train=1600, val=400, batch=64, epochs=15, lr=2e-3, hidden=96, steps=20, seed=5)


def ring(count, clusters, seed):
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(0, clusters, (count,), generator=g)
    angle = 2 * math.pi * label / clusters
    center = 1.5 * torch.stack([angle.cos(), angle.sin()], dim=1)
    return center + 0.15 * torch.randn(count, 2, generator=g), label


class TimeEmbedding(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.register_buffer("frequencies", torch.arange(1, dim // 2 + 1) * math.pi / 2)

    def forward(self, t):
        phase = t[:, None] * self.frequencies
        return torch.cat([phase.sin(), phase.cos()], dim=1)


class Velocity(nn.Module):
    def __init__(self, clusters, hidden, time_dim=8):
        super().__init__()
        self.time = TimeEmbedding(time_dim)
        self.label = nn.Embedding(clusters, 16)
        self.net = nn.Sequential(
            nn.Linear(2 + time_dim + 16, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, 2),
        )

    def forward(self, x, t, label):
        return self.net(torch.cat([x, self.time(t), self.label(label)], dim=1))


class Flow:
    """t = 0 is noise, t = 1 is data."""

    def interpolate(self, data, noise, t):
        t = t[:, None]
        return t * data + (1 - t) * noise

    def target(self, data, noise):
        return data - noise

    def loss(self, model, data, label, noise, t):
        velocity = model(self.interpolate(data, noise, t), t, label)
        return (velocity - self.target(data, noise)).pow(2).mean()

    @torch.no_grad()
    def sample(self, model, label, steps):
        x = torch.randn(len(label), 2)
        for i in range(steps):
            t = torch.full((len(label),), i / steps)
            x = x + model(x, t, label) / steps
        return x


def batches(x, y, size):
    order = torch.randperm(len(x))
    for start in range(0, len(x) - size + 1, size):
        index = order[start : start + size]
        yield x[index], y[index]


def energy_distance(a, b):
    def mean_off_diagonal(z):
        return torch.cdist(z, z).sum() / (len(z) * (len(z) - 1))

    return (2 * torch.cdist(a, b).mean() - mean_off_diagonal(a) - mean_off_diagonal(b)).item()


def main(cfg=CONFIG):
    torch.manual_seed(cfg.seed)
    x_train, y_train = ring(cfg.train, cfg.clusters, cfg.seed)
    x_val, y_val = ring(cfg.val, cfg.clusters, cfg.seed + 1)
    noise_val, t_val = torch.randn(cfg.val, 2), torch.rand(cfg.val)

    model = Velocity(cfg.clusters, cfg.hidden)
    flow = Flow()
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    steps = cfg.epochs * (cfg.train // cfg.batch)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 1.0 - 0.9 * min(1.0, i / steps))

    for epoch in range(1, cfg.epochs + 1):
        model.train()
        running, seen = 0.0, 0
        for x, y in batches(x_train, y_train, cfg.batch):
            loss = flow.loss(model, x, y, torch.randn_like(x), torch.rand(len(x)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            running += loss.item() * len(x)
            seen += len(x)
        model.eval()
        with torch.no_grad():
            val_loss = flow.loss(model, x_val, y_val, noise_val, t_val).item()
        distance = energy_distance(flow.sample(model, y_val, cfg.steps), x_val)
        print(f"epoch {epoch:2d}  train {running / seen:.3f}  val {val_loss:.3f}  energy distance {distance:.4f}")


if __name__ == "__main__":
    main()
