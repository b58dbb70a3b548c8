"""Claim frequency: a Poisson network with exposure, in a plain loop over arrays, weights averaged."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

cfg = SimpleNamespace(
    policies=2000,
    val_share=0.15,
    test_share=0.15,
    hidden=48,
    epochs=15,
    batch_size=50,
    lr=3e-3,
    weight_decay=1e-3,
    clip=5.0,
    ema_decay=0.95,
    ema_start=20,  # optimizer steps
    seed=11,
)


def load_portfolio(n, seed):
    """Six rating factors in their own units, years of exposure, and the number of claims."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(18, 85, n)
    power = rng.uniform(40, 220, n)
    value = rng.uniform(4000, 60000, n)
    density = np.exp(rng.uniform(2, 9, n))
    bonus = rng.uniform(0.5, 1.5, n)
    vehicle_age = rng.uniform(0, 20, n)
    exposure = rng.uniform(0.3, 1.0, n)
    log_rate = (
        1.0
        + 1.0 * np.cos((age - 18) / 67 * 2 * np.pi)
        + 0.010 * (power - 130)
        + 1.4 * (bonus - 1.0)
        + 0.15 * (np.log(density) - 5.5)
    )
    claims = rng.poisson(exposure * np.exp(log_rate))
    features = np.stack([age, power, value / 1000, np.log(density), bonus, vehicle_age], axis=1)
    return features, exposure, claims


def split_indices(n, val_share, test_share, rng):
    n_val, n_test = int(n * val_share), int(n * test_share)
    perm = rng.permutation(n)
    idx_test = perm[:n_test]
    idx_val = perm[n_test : n_test + n_val]
    idx_train = perm[n_test + n_val :]
    return idx_train, idx_val, idx_test


class FrequencyNet(nn.Module):
    """The logarithm of claims a year; a policy's expectation is exposure * exp(eta)."""

    def __init__(self, n_features, hidden):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(n_features, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1)
        )

    def forward(self, x):
        return self.body(x).squeeze(-1)


def batches(n, size, generator):
    order = torch.randperm(n, generator=generator)
    for start in range(0, n, size):
        yield order[start : start + size]


def poisson_deviance(mu, y):
    """The mean deviance, the usual figure of merit of actuaries."""
    ratio = torch.where(y > 0, y * torch.log(y.clamp(min=1) / mu), torch.zeros_like(y))
    return (2 * (ratio - (y - mu))).mean().item()


@torch.no_grad()
def evaluate(net, x, exposure, y):
    net.eval()
    mu = exposure * torch.exp(net(x))
    return poisson_deviance(mu, y)


def main():
    torch.manual_seed(cfg.seed)
    rng = np.random.default_rng(cfg.seed)
    features, exposure, claims = load_portfolio(cfg.policies, cfg.seed)
    idx_train, idx_val, idx_test = split_indices(cfg.policies, cfg.val_share, cfg.test_share, rng)

    mean = features[idx_train].mean(axis=0)
    std = features[idx_train].std(axis=0)
    features = (features - mean) / std

    def part(index):
        return tuple(torch.tensor(a[index], dtype=torch.float32) for a in (features, exposure, claims))

    x_train, e_train, y_train = part(idx_train)
    x_val, e_val, y_val = part(idx_val)
    x_test, e_test, y_test = part(idx_test)

    net = FrequencyNet(x_train.shape[1], cfg.hidden)
    ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(cfg.ema_decay))
    criterion = nn.PoissonNLLLoss(log_input=True)
    optimizer = torch.optim.AdamW(net.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    steps = cfg.epochs * -(-len(x_train) // cfg.batch_size)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps, eta_min=1e-5)

    null = y_train.sum() / e_train.sum()
    print(f"deviance of one rate for all: {poisson_deviance(null * e_val, y_val):.4f}")
    generator = torch.Generator().manual_seed(cfg.seed)
    global_step = 0
    for epoch in range(cfg.epochs):
        net.train()
        running, seen = 0.0, 0
        for index in batches(len(x_train), cfg.batch_size, generator):
            x, e, y = x_train[index], e_train[index], y_train[index]
            eta = net(x) + torch.log(e)
            loss = criterion(eta, y)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), cfg.clip)
            optimizer.step()
            scheduler.step()
            global_step += 1
            if global_step >= cfg.ema_start:
                ema.update_parameters(net)
            running += loss.item() * len(index)
            seen += len(index)
        print(f"epoch {epoch:2d} loss {running / seen:.4f} val deviance {evaluate(ema, x_val, e_val, y_val):.4f}")

    print(f"test deviance {evaluate(ema, x_test, e_test, y_test):.4f}")


if __name__ == "__main__":
    main()
