"""Density estimation of two moons with a RealNVP of affine couplings."""

import argparse
import copy
import math

import torch
from sklearn.datasets import make_moons
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class AffineCoupling(nn.Module):
    def __init__(self, dim, hidden, mask):
        super().__init__()
        self.register_buffer("mask", mask)
        self.net = nn.Sequential(
            nn.Linear(dim, hidden),
            nn.LeakyReLU(0.1),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.1),
            nn.Linear(hidden, 2 * dim),
        )
        self.log_scale_limit = 2.0

    def params(self, kept):
        s, t = self.net(kept).chunk(2, dim=1)
        s = self.log_scale_limit * torch.tanh(s / self.log_scale_limit)
        return s * (1 - self.mask), t * (1 - self.mask)

    def forward(self, x):
        kept = x * self.mask
        s, t = self.params(kept)
        z = kept + (1 - self.mask) * (x * torch.exp(s) + t)
        return z, s.sum(dim=1)

    def inverse(self, z):
        kept = z * self.mask
        s, t = self.params(kept)
        return kept + (1 - self.mask) * (z - t) * torch.exp(-s)


class RealNVP(nn.Module):
    def __init__(self, dim=2, hidden=64, n_layers=6):
        super().__init__()
        masks = [torch.tensor([float((i + j) % 2) for j in range(dim)]) for i in range(n_layers)]
        self.layers = nn.ModuleList([AffineCoupling(dim, hidden, mask) for mask in masks])
        self.dim = dim

    def forward(self, x):
        """Log-density of each sample."""
        log_det = torch.zeros(len(x), device=x.device)
        for layer in self.layers:
            x, contribution = layer(x)
            log_det = log_det + contribution
        log_prior = -0.5 * (x**2).sum(dim=1) - 0.5 * self.dim * math.log(2 * math.pi)
        return log_prior + log_det

    @torch.no_grad()
    def sample(self, count, generator=None):
        z = torch.randn(count, self.dim, generator=generator)
        for layer in reversed(self.layers):
            z = layer.inverse(z)
        return z


def build_data(seed):
    train, _ = make_moons(n_samples=1500, noise=0.06, random_state=seed)
    held_out, _ = make_moons(n_samples=400, noise=0.06, random_state=seed + 1)
    mean, std = train.mean(axis=0), train.std(axis=0)
    to_set = lambda a: TensorDataset(torch.tensor((a - mean) / std, dtype=torch.float32))
    return to_set(train), to_set(held_out)


@torch.no_grad()
def evaluate(flow, loader):
    flow.eval()
    total, count = 0.0, 0
    for (x,) in loader:
        total += -flow(x).sum().item()
        count += len(x)
    return total / count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=3)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    train_set, val_set = build_data(args.seed)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=200)
    flow = RealNVP()
    optimizer = torch.optim.Adam(flow.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[10, 13], gamma=0.3)

    best, best_state = math.inf, None
    for epoch in range(args.epochs):
        flow.train()
        running = 0.0
        for (x,) in train_loader:
            loss = -flow(x).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
            optimizer.step()
            running += loss.item()
        scheduler.step()
        nll = evaluate(flow, val_loader)
        if nll < best:
            best, best_state = nll, copy.deepcopy(flow.state_dict())
        print(f"epoch {epoch + 1:2d}: train nll {running / len(train_loader):.3f}  val nll {nll:.3f}")

    flow.load_state_dict(best_state)
    points = flow.sample(500, torch.Generator().manual_seed(0))
    print(f"best val nll {best:.3f}; samples: mean {points.mean(0).tolist()}, std {points.std(0).tolist()}")


if __name__ == "__main__":
    main()
