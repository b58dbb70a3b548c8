"""A normalizing flow (RealNVP) of two moons, evaluated through an exponential average of its weights."""
import argparse
import math

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader


def moons(count, seed):
    generator = torch.Generator().manual_seed(seed)
    angle = math.pi * torch.rand(count, generator=generator)
    upper = torch.rand(count, generator=generator) < 0.5
    x = torch.where(upper, angle.cos(), 1 - angle.cos())
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin())
    return torch.stack([x, y], 1) + 0.08 * torch.randn(count, 2, generator=generator)


class Coupling(nn.Module):
    """Scales and shifts one coordinate by what the other says. Begins as the identity: the last layer is zero."""

    def __init__(self, kept, width):
        super().__init__()
        self.kept = kept
        self.net = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x):
        kept, moved = x[:, self.kept : self.kept + 1], x[:, 1 - self.kept : 2 - self.kept]
        raw, shift = self.net(kept).chunk(2, 1)
        log_scale = 2 * torch.tanh(raw / 2)
        moved = moved * log_scale.exp() + shift
        parts = [kept, moved] if self.kept == 0 else [moved, kept]
        return torch.cat(parts, 1), log_scale.squeeze(1)


class Flow(nn.Module):
    def __init__(self, layers, width):
        super().__init__()
        self.couplings = nn.ModuleList(Coupling(number % 2, width) for number in range(layers))

    def forward(self, x):
        """The log density of each point."""
        log_det = torch.zeros(len(x))
        for coupling in self.couplings:
            x, added = coupling(x)
            log_det = log_det + added
        return -0.5 * x.pow(2).sum(1) - math.log(2 * math.pi) + log_det


@torch.no_grad()
def negative_log_likelihood(flow, points):
    flow.eval()
    return -flow(points).mean().item()


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--jitter", type=float, default=0.03, help="noise on training points, less and less")
    return parser.parse_args()


def main(args):
    torch.manual_seed(22)
    torch.set_num_threads(1)
    points, valid = moons(4000, seed=80), moons(1500, seed=81)
    mean, spread = points.mean(0), points.std(0)
    points, valid = (points - mean) / spread, (valid - mean) / spread
    gauss = torch.distributions.MultivariateNormal(points.mean(0), points.T.cov())
    print(f"one Gaussian: {-gauss.log_prob(valid).mean():.4f} nats")

    loader = DataLoader(points, batch_size=128, shuffle=True)
    flow = Flow(args.layers, args.width)
    average = AveragedModel(flow, multi_avg_fn=get_ema_multi_avg_fn(0.98))
    optimizer = torch.optim.Adam(flow.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs, eta_min=1e-4)
    for epoch in range(args.epochs):
        flow.train()
        jitter = args.jitter * (1 - epoch / args.epochs)
        total = 0.0
        for batch in loader:
            loss = -flow(batch + jitter * torch.randn_like(batch)).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
            optimizer.step()
            average.update_parameters(flow)
            total += loss.item() * len(batch)
        scheduler.step()
        print(
            f"epoch {epoch:2d} train {total / len(points):.4f} "
            f"valid {negative_log_likelihood(flow, valid):.4f} averaged {negative_log_likelihood(average, valid):.4f}"
        )


if __name__ == "__main__":
    main(parse())
