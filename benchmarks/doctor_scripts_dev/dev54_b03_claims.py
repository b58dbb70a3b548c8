"""Claim frequency of insurance policies: a Poisson network with exposure as offset, raw tensors, no DataLoader."""
import dataclasses
import math
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


@dataclasses.dataclass
class Settings:
    policies: int = 1800
    valid_share: float = 0.25
    widths: tuple = (48, 48)
    batch: int = 64
    epochs: int = 15
    lr: float = 4e-3
    weight_decay: float = 1e-4
    seed: int = 3


COLUMNS = ["claims", "exposure", "driver_age", "vehicle_age", "power", "density", "bonus", "mileage"]


def simulate(count, seed):
    """A portfolio as a table with the columns above."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(count, 6))
    log_rate = 0.3 + 0.8 * np.sin(2 * z[:, 0]) + 0.5 * np.tanh(z[:, 1] * z[:, 2]) + 0.4 * z[:, 3] - 0.4 * np.abs(z[:, 4])
    exposure = rng.uniform(0.5, 3.0, size=count)
    claims = rng.poisson(exposure * np.exp(log_rate))
    raw = z * np.array([14.0, 4.0, 30.0, 900.0, 20.0, 5000.0]) + np.array([45.0, 8.0, 90.0, 1500.0, 60.0, 14000.0])
    return np.column_stack([claims, exposure, raw]).astype(np.float32)


def split(count, share, seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(count)
    cut = int(count * (1 - share))
    train_idx = order[:cut]
    valid_idx = order[cut:]
    return train_idx, valid_idx


class Standardizer:
    def fit(self, x):
        self.mean, self.scale = x.mean(0), x.std(0) + 1e-6
        return self

    def transform(self, x):
        return (x - self.mean) / self.scale


def prepare(table, train_idx, valid_idx):
    """Tensors (features, log exposure, claims) of both parts; the scaler knows the training part only."""
    claims, exposure = table[:, 0], table[:, 1]
    features = table[:, 2:]
    scaler = Standardizer().fit(features[train_idx])
    parts = []
    for index in (train_idx, valid_idx):
        parts.append(
            (
                torch.from_numpy(scaler.transform(features[index])),
                torch.from_numpy(np.log(exposure[index])),
                torch.from_numpy(claims[index]),
            )
        )
    return parts


class FrequencyNet(nn.Module):
    """log of the expected number of claims = f(features) + log exposure"""

    def __init__(self, inputs, widths):
        super().__init__()
        sizes = [inputs, *widths, 1]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in zip(sizes, sizes[1:]):
            self.weights.append(nn.Parameter(torch.randn(fan_in, fan_out) / math.sqrt(fan_in)))
            self.biases.append(nn.Parameter(torch.zeros(fan_out)))
        self.depth = len(self.weights)

    def start_from(self, base_rate):
        with torch.no_grad():
            self.weights[-1].mul_(0.1)
            self.biases[-1].fill_(math.log(base_rate))

    def forward(self, x, log_exposure):
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases), start=1):
            x = x @ weight + bias
            if layer < self.depth:
                x = F.gelu(x)
        return x.squeeze(-1) + log_exposure


def objective(log_mean, claims):
    return F.poisson_nll_loss(log_mean, claims, log_input=True)


def poisson_deviance(log_mean, claims):
    mean = log_mean.exp()
    return 2 * (torch.xlogy(claims, claims) - claims * log_mean - claims + mean).mean()


def minibatches(part, size, generator):
    order = torch.randperm(len(part[0]), generator=generator)
    for index in order.split(size):
        yield [column[index] for column in part]


@torch.no_grad()
def evaluate(net, part):
    net.eval()
    x, log_exposure, claims = part
    log_mean = net(x, log_exposure)
    return poisson_deviance(log_mean, claims).item()


def null_deviance(train, valid):
    rate = train[2].sum() / train[1].exp().sum()
    return poisson_deviance(rate.log() + valid[1], valid[2]).item()


def main(settings=Settings()):
    torch.manual_seed(settings.seed)
    table = simulate(settings.policies, settings.seed)
    train_idx, valid_idx = split(settings.policies, settings.valid_share, settings.seed)
    train, valid = prepare(table, train_idx, valid_idx)
    net = FrequencyNet(train[0].shape[1], settings.widths)
    net.start_from((train[2].sum() / train[1].exp().sum()).item())
    optimizer = torch.optim.AdamW(net.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    steps = settings.epochs * math.ceil(len(train[0]) / settings.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(settings.seed)
    print(f"null model: deviance {null_deviance(train, valid):.4f}")
    started = time.time()
    for epoch in range(1, settings.epochs + 1):
        net.train()
        for x, log_exposure, claims in minibatches(train, settings.batch, generator):
            loss = objective(net(x, log_exposure), claims)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(
            f"epoch {epoch:2d}  train deviance {evaluate(net, train):.4f}  "
            f"valid deviance {evaluate(net, valid):.4f}  {time.time() - started:.1f} s"
        )


if __name__ == "__main__":
    main()
