"""Anomaly detection on a plant's sensors: a denoising autoencoder learns the normal state, its error is the score."""

import argparse
import copy

import numpy as np
import torch
from sklearn.metrics import f1_score, roc_auc_score
from torch import nn
from torch.nn import functional as F

CHANNELS, WINDOW = 4, 24


def simulate(steps, seed):
    """Four sensors that follow two slow rhythms and a random load; each has its unit and offset."""
    rng = np.random.default_rng(seed)
    t = np.arange(steps)
    load = np.convolve(rng.normal(size=steps + 20), np.ones(21) / 21, mode="valid") * 3
    a = np.sin(2 * np.pi * t / 24) + 0.5 * load
    b = np.cos(2 * np.pi * t / 60)
    sensors = np.stack([a, b, 0.7 * a + 0.5 * b, a * b], 1) + 0.08 * rng.normal(size=(steps, CHANNELS))
    return sensors * [5.0, 0.4, 12.0, 1.5] + [60.0, 1.2, 300.0, 0.0]


def inject(series, windows, seed):
    """Every third window of the test part gets a fault in one sensor: it sticks, drifts or is exchanged with noise."""
    rng = np.random.default_rng(seed)
    series, labels = series.copy(), np.zeros(windows, dtype=int)
    spread = series.std(0)
    for w in range(0, windows, 3):
        part = series[w * WINDOW : (w + 1) * WINDOW]
        channel, kind = rng.integers(CHANNELS), rng.integers(3)
        if kind == 0:
            part[6:, channel] = part[6, channel] + 1.5 * spread[channel]
        elif kind == 1:
            part[:, channel] += np.linspace(0, 3, WINDOW) * spread[channel]
        else:
            part[:, channel] += rng.normal(size=WINDOW) * 1.2 * spread[channel]
        labels[w] = 1
    return series, labels


def to_windows(series, stride):
    starts = range(0, len(series) - WINDOW + 1, stride)
    return torch.tensor(np.stack([series[s : s + WINDOW] for s in starts]), dtype=torch.float32)


def load_data(seed):
    """Training, validation and test parts one after the other in time, cut before the windows are."""
    series = simulate(5200, seed)
    mean, std = series[:3000].mean(0), series[:3000].std(0)
    train = to_windows((series[:3000] - mean) / std, stride=2)
    valid = to_windows((series[3000:3800] - mean) / std, stride=2)
    test_series, labels = inject(series[3800:5192], 58, seed + 1)
    test = to_windows((test_series - mean) / std, stride=WINDOW)
    return train, valid, test, labels


def build_autoencoder(code=12, hidden=96):
    size = CHANNELS * WINDOW
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(size, hidden), nn.GELU(),
        nn.Linear(hidden, code),
        nn.Linear(code, hidden), nn.GELU(),
        nn.Linear(hidden, size),
        nn.Unflatten(1, (WINDOW, CHANNELS)),
    )


def batches(windows, size, generator):
    """Endless: passes over the training windows, each in an order of its own."""
    while True:
        for index in torch.randperm(len(windows), generator=generator).split(size):
            yield windows[index]


@torch.no_grad()
def update_average(average, model, decay):
    for e, p in zip(average.parameters(), model.parameters()):
        e.mul_(decay).add_(p, alpha=1 - decay)


@torch.no_grad()
def scores(model, windows):
    model.eval()
    return (model(windows) - windows).square().mean((1, 2))


def train_step(model, optimizer, loader, accumulate, noise):
    """One step of the optimizer on several small batches."""
    model.train()
    total = 0.0
    optimizer.zero_grad()
    for _ in range(accumulate):
        clean = next(loader)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(clean + noise * torch.randn_like(clean))
        loss = F.mse_loss(output.float(), clean) / accumulate
        loss.backward()
        total += loss.item()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--accumulate", type=int, default=2)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--noise", type=float, default=0.15)
    parser.add_argument("--decay", type=float, default=0.97)
    parser.add_argument("--quantile", type=float, default=0.98)
    args = parser.parse_args()

    torch.manual_seed(11)
    train, valid, test, labels = load_data(seed=4)
    loader = batches(train, args.batch, torch.Generator().manual_seed(0))
    model = build_autoencoder()
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.steps, eta_min=args.lr / 20)

    running = None
    for step in range(1, args.steps + 1):
        loss = train_step(model, optimizer, loader, args.accumulate, args.noise)
        schedule.step()
        update_average(average, model, args.decay)
        running = loss if running is None else 0.95 * running + 0.05 * loss
        if step % 100 == 0:
            print(f"step {step}: training error {running:.4f}, validation error {scores(average, valid).mean().item():.4f}")

    limit = torch.quantile(scores(average, valid), args.quantile).item()
    found = scores(average, test).numpy()
    print(f"limit {limit:.4f}: F1 {f1_score(labels, found > limit):.3f}, AUROC {roc_auc_score(labels, found):.3f}")


if __name__ == "__main__":
    main()
