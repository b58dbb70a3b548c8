"""DeepSurv: a network for the log hazard, trained with Cox's partial likelihood; censored data."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset


@dataclass
class Options:
    samples: int = 12000
    validation: int = 2000
    batch_size: int = 128
    hidden: int = 128
    dropout: float = 0.1
    epochs: int = 40
    lr: float = 1e-3
    weight_decay: float = 1e-3
    seed: int = 21


def simulate(options):
    """Patients: age, blood pressure, dose, marker, and noise; times from an exponential hazard."""
    rng = np.random.default_rng(options.seed)
    n = options.samples
    age = rng.normal(60, 10, n)
    pressure = rng.normal(130, 15, n)
    dose = rng.uniform(0, 2, n)
    marker = rng.lognormal(0, 0.5, n)
    treated = rng.integers(0, 2, n)
    others = rng.normal(0, 1, (n, 5))
    log_hazard = (
        0.9 * (age - 60) / 10
        + 0.6 * ((pressure - 130) / 15) ** 2
        - 1.2 * treated * dose
        + 0.8 * np.log(marker) / 0.5
    )
    survival = rng.exponential(1.0, n) * np.exp(-log_hazard)
    censoring = rng.exponential(4.0, n)
    time = np.minimum(survival, censoring)
    event = survival <= censoring
    features = np.column_stack([age, pressure, dose, marker, treated, others])
    return features.astype(np.float32), time.astype(np.float32), event, log_hazard


class DeepSurv(nn.Module):
    def __init__(self, inputs, hidden, dropout):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(inputs, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, 1, bias=False),  # the partial likelihood does not see a constant
        )

    def forward(self, x):
        return self.net(x).squeeze(-1)


def cox_loss(log_hazard, time, event):
    """Negative log partial likelihood per event; who is at risk at a time has not left before it."""
    order = torch.argsort(time, descending=True)
    log_hazard, event = log_hazard[order], event[order]
    log_risk_set = torch.logcumsumexp(log_hazard, dim=0)
    return -((log_hazard - log_risk_set) * event).sum() / event.sum().clamp(min=1)


def concordance(log_hazard, time, event):
    """Harrell's C: of the pairs whose order is known, the share in which the higher hazard goes first."""
    first = (time[:, None] < time[None, :]) & event[:, None].bool()
    difference = log_hazard[:, None] - log_hazard[None, :]
    right = (difference > 0).float() + 0.5 * (difference == 0).float()
    return (right * first).sum().item() / first.sum().item()


def train_epoch(model, loader, optimizer):
    model.train()
    total = 0.0
    for x, time, event in loader:
        optimizer.zero_grad()
        loss = cox_loss(model(x), time, event)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader)


@torch.no_grad()
def evaluate(model, x, time, event):
    model.eval()
    log_hazard = model(x)
    return cox_loss(log_hazard, time, event).item(), concordance(log_hazard, time, event)


def main():
    options = Options()
    torch.manual_seed(options.seed)
    features, time, event, truth = simulate(options)
    cut = options.samples - options.validation
    mean, std = features[:cut].mean(axis=0), features[:cut].std(axis=0)
    x = torch.from_numpy((features - mean) / std)
    time, event = torch.from_numpy(time), torch.from_numpy(event).float()
    print(f"{event.mean().item():.1%} of the times are events")

    train_set = TensorDataset(x[:cut], time[:cut], event[:cut])
    loader = DataLoader(train_set, batch_size=options.batch_size, shuffle=True, drop_last=True)
    held_out = x[cut:], time[cut:], event[cut:]
    oracle = concordance(torch.from_numpy(truth[cut:]).float(), *held_out[1:])

    model = DeepSurv(x.size(1), options.hidden, options.dropout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs, eta_min=1e-5)
    for epoch in range(options.epochs):
        loss = train_epoch(model, loader, optimizer)
        scheduler.step()
        # the loss grows with the number of those at risk: that of all held out is not that of a batch
        val_loss, c_index = evaluate(model, *held_out)
        print(
            f"epoch {epoch + 1:2d}: train loss {loss:.4f}, held out loss {val_loss:.4f}, "
            f"c-index {c_index:.4f} (true hazards: {oracle:.4f})"
        )


if __name__ == "__main__":
    main()
