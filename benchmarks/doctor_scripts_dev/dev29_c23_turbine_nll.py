"""Power of a wind turbine with its uncertainty: Gaussian NLL, Accelerate, two batches to an update.

The loss becomes negative: it is the logarithm of a density, and that may be more than one.
"""
import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

ACCUMULATE = 2
RATED = 2000.0  # kW


def measurements(count, seed):
    rng = np.random.default_rng(seed)
    wind = np.clip(8.5 * rng.weibull(2.0, count), 0, 22)
    direction = rng.uniform(0, 2 * np.pi, count)
    temperature = rng.normal(9, 7, count)
    wake = 1 - 0.15 * np.exp(-(((direction - 4.0) / 0.35) ** 2))  # another turbine stands there
    felt = wind * wake * (1 - 0.002 * (temperature - 9))
    curve = RATED / (1 + np.exp(-(felt - 9.0) / 1.3))
    spread = 15 + 0.12 * curve * (1 - curve / RATED)
    power = curve + spread * rng.standard_normal(count)
    features = np.stack([wind, np.sin(direction), np.cos(direction), temperature], axis=1)
    return features, power[:, None]


class MeanVariance(nn.Module):
    def __init__(self, inputs=4, hidden=64):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.mean = nn.Linear(hidden, 1)
        self.spread = nn.Linear(hidden, 1)

    def forward(self, x):
        h = self.trunk(x)
        return self.mean(h), F.softplus(self.spread(h)) + 1e-4


def loaders(batch_size):
    x, y = measurements(4800, seed=1)
    x_val, y_val = measurements(1200, seed=2)
    x_mean, x_std, y_mean, y_std = x.mean(0), x.std(0), y.mean(), y.std()

    def dataset(features, power):
        return TensorDataset(torch.tensor((features - x_mean) / x_std, dtype=torch.float32),
                             torch.tensor((power - y_mean) / y_std, dtype=torch.float32))

    train_loader = DataLoader(dataset(x, y), batch_size=batch_size, shuffle=True, drop_last=True)
    return train_loader, DataLoader(dataset(x_val, y_val), batch_size=300), float(y_std)


def main():
    set_seed(14)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=ACCUMULATE)
    train_loader, val_loader, kilowatts = loaders(batch_size=32)
    model = MeanVariance()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
    epochs = 16
    updates = epochs * len(train_loader) // ACCUMULATE
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=updates)
    model, optimizer, train_loader, val_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, val_loader, scheduler)

    for epoch in range(epochs):
        model.train()
        total = 0.0
        for x, y in train_loader:
            with accelerator.accumulate(model):
                mean, variance = model(x)
                loss = F.gaussian_nll_loss(mean, y, variance)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            total += loss.item()

        model.eval()
        means, variances, targets = [], [], []
        for x, y in val_loader:
            with torch.no_grad():
                mean, variance = model(x)
            mean, variance, y = accelerator.gather_for_metrics((mean, variance, y))
            means.append(mean)
            variances.append(variance)
            targets.append(y)
        mean, variance, y = torch.cat(means), torch.cat(variances), torch.cat(targets)
        rmse = (mean - y).pow(2).mean().sqrt().item() * kilowatts
        covered = ((mean - y).abs() < 1.645 * variance.sqrt()).float().mean().item()
        nll = F.gaussian_nll_loss(mean, y, variance).item()
        accelerator.print(f"epoch {epoch + 1:2d}: train nll {total / len(train_loader):.4f}, val nll {nll:.4f}, "
                          f"RMSE {rmse:.1f} kW, 90% interval covers {100 * covered:.1f}%")


if __name__ == "__main__":
    main()
