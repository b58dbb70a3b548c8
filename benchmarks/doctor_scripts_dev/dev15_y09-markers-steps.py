"""Where are ring and cross?  Two points (and the ring's radius) from 24 x 24 pictures; functions over a state."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

SIDE = 24


class Batch(NamedTuple):
    image: torch.Tensor   # N x 1 x SIDE x SIDE
    points: torch.Tensor  # N x 4: ring x, ring y, cross x, cross y, from -1 to 1
    radius: torch.Tensor  # N, standardized


class State(NamedTuple):
    net: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    rng: torch.Generator


def render(count, seed):
    rng = torch.Generator().manual_seed(seed)
    ys, xs = torch.meshgrid(torch.arange(SIDE).float(), torch.arange(SIDE).float(), indexing="ij")
    where = 4 + (SIDE - 9) * torch.rand(count, 4, generator=rng)
    radius = 2 + 2 * torch.rand(count, generator=rng)
    rx, ry, cx, cy = (where[:, k, None, None] for k in range(4))
    distance = ((xs - rx) ** 2 + (ys - ry) ** 2).sqrt()
    ring = torch.exp(-((distance - radius[:, None, None]) ** 2) / 0.5)
    dx, dy = (xs - cx).abs(), (ys - cy).abs()
    cross = torch.exp(-torch.minimum(dx, dy) ** 2 / 0.4) * (torch.maximum(dx, dy) < 3.5)
    image = torch.maximum(ring, cross) + 0.08 * torch.randn(count, SIDE, SIDE, generator=rng)
    center = (SIDE - 1) / 2
    return Batch(image[:, None], (where - center) / center, (radius - 3) / 0.58)


def augment(batch, rng):
    """Mirrors about half of the pictures left to right."""
    mirror = torch.rand(len(batch.image), generator=rng) < 0.5
    image = torch.where(mirror[:, None, None, None], batch.image.flip(-1), batch.image)
    sign = torch.ones_like(batch.points)
    sign[mirror, 0::2] = -1
    return Batch(image, batch.points * sign, batch.radius)


class MarkerNet(nn.Module):
    def __init__(self, widths=(16, 32, 32), strides=(2, 2, 1), hidden=96):
        super().__init__()
        chain = [1, *widths]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, s, padding=1) for a, b, s in zip(chain, chain[1:], strides))
        self.squash = nn.Linear(widths[-1] * 36, hidden)
        self.to_points = nn.Linear(hidden, 4)
        self.to_radius = nn.Linear(hidden, 1)

    def forward(self, x):
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.1)
        h = F.leaky_relu(self.squash(x.flatten(1)), 0.1)
        points = self.to_points(h)
        radius = self.to_radius(h).squeeze(1)
        return points, radius


def create_state(steps, lr=2e-3, seed=2):
    torch.manual_seed(seed)
    net = MarkerNet()
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=steps)
    return State(net, optimizer, schedule, torch.Generator().manual_seed(seed))


def sample(data, size, rng):
    rows = torch.randint(len(data.image), (size,), generator=rng)
    return Batch(*(column[rows] for column in data))


def objective(net, batch):
    points, radius = net(batch.image)
    point_term = F.mse_loss(points, batch.points)
    radius_term = F.mse_loss(radius, batch.radius)
    return point_term + 0.2 * radius_term, {"points": point_term.item(), "radius": radius_term.item()}


def train_step(state, batch):
    loss, parts = objective(state.net, augment(batch, state.rng))
    state.optimizer.zero_grad()
    loss.backward()
    state.optimizer.step()
    state.schedule.step()
    return parts


@torch.no_grad()
def assess(state, data):
    state.net.eval()
    points, radius = state.net(data.image)
    state.net.train()
    pixels = (points - data.points).view(-1, 2, 2).norm(dim=-1) * (SIDE - 1) / 2
    spread = (radius.flatten() - data.radius).abs().mean() * 0.58
    return {"px": pixels.mean().item(), "pck2": (pixels < 2).float().mean().item(), "radius": spread.item()}


def main(steps=900, size=50):
    train, held_out = render(3000, seed=100), render(300, seed=101)
    state = create_state(steps)
    for step in range(1, steps + 1):
        parts = train_step(state, sample(train, size, state.rng))
        if step % 150 == 0:
            report = assess(state, held_out)
            print(f"{step:4d}  {parts['points']:.4f}  {parts['radius']:.4f}  | " + "  ".join(f"{k} {v:.3f}" for k, v in report.items()))
    final = assess(state, held_out)
    print(f"mean error {final['px']:.3f} pixels, within 2 pixels {final['pck2']:.3f}, radius off by {final['radius']:.3f}")


if __name__ == "__main__":
    main()
