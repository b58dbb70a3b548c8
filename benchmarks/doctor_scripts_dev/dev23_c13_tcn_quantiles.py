"""Forecasts with quantiles: a causal convolutional network, windows scaled by themselves, split by time."""
import math
from types import SimpleNamespace

import torch
import torch.nn as nn
import torch.nn.functional as F

PAST, AHEAD = 56, 7
QUANTILES = torch.tensor([0.1, 0.5, 0.9])


def make_series(count=48, length=420, seed=0):
    """Weekly and monthly waves on a level of each series' own, with noise that lingers."""
    g = torch.Generator().manual_seed(seed)
    t = torch.arange(length).float()
    level = 20 + 200 * torch.rand(count, 1, generator=g)
    week = (0.1 + 0.2 * torch.rand(count, 1, generator=g)) * torch.sin(
        2 * math.pi * (t / 7 + torch.rand(count, 1, generator=g)))
    month = 0.15 * torch.sin(2 * math.pi * (t / 28 + torch.rand(count, 1, generator=g)))
    noise, steps = torch.zeros(count), []
    for _ in range(length):
        noise = 0.7 * noise + 0.03 * torch.randn(count, generator=g)
        steps.append(noise)
    return level * (1 + week + month + torch.stack(steps, dim=1))


def windows(series, stride):
    cut = series.unfold(1, PAST + AHEAD, stride).reshape(-1, PAST + AHEAD)
    return cut[:, :PAST].contiguous(), cut[:, PAST:].contiguous()


class CausalConv(nn.Module):
    def __init__(self, width, dilation):
        super().__init__()
        self.pad = 2 * dilation
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(width, 2 * width, 3, dilation=dilation))
        self.mix = nn.Conv1d(width, width, 1)
        self.drop = nn.Dropout(0.05)

    def forward(self, x):
        hidden = F.glu(self.conv(F.pad(x, (self.pad, 0))), dim=1)
        return x + self.drop(self.mix(hidden))


class Forecaster(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.lift = nn.Conv1d(1, width, 1)
        self.layers = nn.Sequential(*[CausalConv(width, 2**i) for i in range(5)])
        self.head = nn.Sequential(nn.Linear(2 * width, 64), nn.ReLU(), nn.Linear(64, AHEAD * len(QUANTILES)))

    def forward(self, past):
        # the scale of a window is that of its past; what lies ahead has no part in it
        center, spread = past.mean(1, keepdim=True), past.std(1, keepdim=True) + 1e-3
        hidden = self.layers(self.lift(((past - center) / spread).unsqueeze(1)))
        summary = torch.cat([hidden[:, :, -1], hidden[:, :, -7:].mean(2)], dim=1)
        low, step1, step2 = self.head(summary).view(-1, AHEAD, 3).unbind(2)
        # quantiles cannot cross: each is the one before and something positive
        middle = low + F.softplus(step1)
        scaled = torch.stack([low, middle, middle + F.softplus(step2)], dim=2)
        return scaled, center.unsqueeze(2), spread.unsqueeze(2)


def pinball(predicted, truth):
    error = truth.unsqueeze(2) - predicted
    return torch.maximum(QUANTILES * error, (QUANTILES - 1) * error).mean()


def make_step(model, optimizer, scheduler, clip):
    def step(past, ahead):
        model.train()
        scaled, center, spread = model(past)
        truth = (ahead - center[:, 0]) / spread[:, 0]
        loss = pinball(scaled, truth)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        scheduler.step()
        return loss.detach()

    return step


def make_evaluation(model, past, ahead):
    naive = past[:, -7:]  # the same day of the last week
    naive_error = (naive - ahead).abs().mean().item()

    @torch.no_grad()
    def evaluation():
        model.eval()
        scaled, center, spread = model(past)
        predicted = scaled * spread + center
        error = (predicted[:, :, 1] - ahead).abs().mean().item()
        inside = ((ahead >= predicted[:, :, 0]) & (ahead <= predicted[:, :, 2])).float().mean().item()
        return error, naive_error, inside

    return evaluation


def main():
    cfg = SimpleNamespace(epochs=16, batch=64, lr=4e-3, split=310, clip=1.0)
    torch.manual_seed(9)
    series = make_series()
    past, ahead = windows(series[:, : cfg.split], stride=3)
    valid_past, valid_ahead = windows(series[:, cfg.split :], stride=3)  # begins where training ends
    print(f"{len(past)} windows for training, {len(valid_past)} later ones for validation")

    model = Forecaster()
    steps = math.ceil(len(past) / cfg.batch)
    optimizer = torch.optim.RAdam(model.parameters(), lr=cfg.lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=cfg.lr, total_steps=steps * cfg.epochs, pct_start=0.2, cycle_momentum=False)
    step = make_step(model, optimizer, scheduler, cfg.clip)
    evaluation = make_evaluation(model, valid_past, valid_ahead)
    for epoch in range(cfg.epochs):
        losses = [step(past[i], ahead[i]) for i in torch.randperm(len(past)).split(cfg.batch)]
        error, naive_error, inside = evaluation()
        print(f"epoch {epoch:2d} pinball {torch.stack(losses).mean():.4f} | valid mae {error:.3f} "
              f"(naive {naive_error:.3f}) within 10..90% {inside:.3f}")


if __name__ == "__main__":
    main()
