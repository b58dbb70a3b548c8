"""Daily rentals of bike stations: a Poisson network with an offset for the bikes on duty, a dataclass of settings and raw minibatches."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


@dataclass
class Config:
    stations: int = 12
    days: int = 140
    valid_days: int = 28
    lags: int = 7
    hidden: int = 48
    batch_size: int = 32
    epochs: int = 12
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip: float = 5.0
    ema_decay: float = 0.95
    seed: int = 3


@dataclass
class Panel:
    """One row a station, one column a day."""

    counts: torch.Tensor
    bikes: torch.Tensor
    temperature: torch.Tensor


def simulate(cfg):
    g = torch.Generator().manual_seed(cfg.seed)
    level = 0.6 * torch.randn(cfg.stations, 1, generator=g)
    weekday = torch.tensor([0.2, 0.1, 0.0, 0.1, 0.4, -0.5, -0.8])
    temperature = torch.randn(cfg.days, generator=g)
    bikes = torch.randint(2, 8, (cfg.stations, cfg.days), generator=g).float()
    log_rate = level + weekday[torch.arange(cfg.days) % 7] + 0.5 * temperature - 0.2 * temperature.square()
    counts = torch.poisson(bikes * log_rate.exp(), generator=g)
    return Panel(counts, bikes, temperature)


def build_examples(panel, cfg):
    """Features, log of bikes, count and day of each station and day that has a whole history."""
    log_rates = torch.log((panel.counts + 0.5) / panel.bikes)
    features, log_bikes, targets, when = [], [], [], []
    for day in range(cfg.lags, cfg.days):
        angle = 2 * math.pi * (day % 7) / 7
        calendar = torch.tensor([math.sin(angle), math.cos(angle), math.sin(2 * angle), math.cos(2 * angle)])
        shared = torch.cat([calendar, panel.temperature[day : day + 1]])
        history = log_rates[:, day - cfg.lags : day]
        features.append(torch.cat([history, shared.expand(cfg.stations, -1)], dim=1))
        log_bikes.append(panel.bikes[:, day].log())
        targets.append(panel.counts[:, day])
        when.append(torch.full((cfg.stations,), day))
    return torch.cat(features), torch.cat(log_bikes), torch.cat(targets), torch.cat(when)


def split_by_time(examples, cfg):
    when = examples[-1]
    late = when >= cfg.days - cfg.valid_days
    train = tuple(part[~late] for part in examples[:-1])
    valid = tuple(part[late] for part in examples[:-1])
    return train, valid


class RateNet(nn.Module):
    def __init__(self, inputs, hidden):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(),
                                  nn.Linear(hidden, 1))

    def forward(self, features, log_bikes):
        return self.body(features).squeeze(-1) + log_bikes


def minibatches(data, size, generator):
    order = torch.randperm(len(data[0]), generator=generator)
    for chosen in order.split(size):
        yield tuple(part[chosen] for part in data)


def deviance(log_mu, counts):
    """Mean Poisson deviance."""
    mu = log_mu.exp()
    ratio = torch.where(counts > 0, counts * (counts.clamp(min=1).log() - log_mu), torch.zeros_like(mu))
    return 2 * (ratio - counts + mu).mean().item()


@torch.no_grad()
def validate(model, data):
    model.eval()
    features, log_bikes, counts = data
    log_mu = model(features, log_bikes)
    model.train()
    return deviance(log_mu, counts), (log_mu.exp() - counts).abs().mean().item()


def fit(cfg):
    torch.manual_seed(cfg.seed)
    train, valid = split_by_time(build_examples(simulate(cfg), cfg), cfg)
    mean, std = train[0].mean(0), train[0].std(0)
    train = ((train[0] - mean) / std, *train[1:])
    valid = ((valid[0] - mean) / std, *valid[1:])
    rate = train[2].sum() / train[1].exp().sum()
    print(f"{len(train[0])} examples, constant rate: deviance {deviance(rate.log() + valid[1], valid[2]):.3f}")

    model = RateNet(train[0].shape[1], cfg.hidden)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(cfg.ema_decay))
    criterion = nn.PoissonNLLLoss(log_input=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=cfg.lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay,
                                nesterov=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=cfg.epochs)
    generator = torch.Generator().manual_seed(cfg.seed)
    best = float("inf")
    for epoch in range(cfg.epochs):
        total = 0.0
        for features, log_bikes, counts in minibatches(train, cfg.batch_size, generator):
            log_mu = model(features, log_bikes)
            loss = criterion(log_mu, counts)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), cfg.clip)
            optimizer.step()
            averaged.update_parameters(model)
            total += loss.item() * len(counts)
        scheduler.step()
        dev, mae = validate(averaged, valid)
        best = min(best, dev)
        print(f"{epoch:3d} | loss {total / len(train[0]):.4f} | deviance {dev:.3f} | mae {mae:.2f} | best {best:.3f}")
    return averaged


def main():
    fit(Config())


if __name__ == "__main__":
    main()
