"""DeepSurv: a neural Cox model of made patients, judged by the concordance index."""

import argparse
import copy

import numpy as np
import torch
from torch import nn


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=36)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--hidden", type=int, default=320)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--weight-decay", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=3)
    return parser.parse_args()


def simulate_patients(count, seed):
    """Covariates, the time until death or the end of observation, and whether it was death (1) or not (0)."""
    rng = np.random.default_rng(seed)
    age = rng.normal(62, 11, count)
    pressure = rng.normal(135, 18, count)
    creatinine = rng.normal(85, 20, count)
    bmi = rng.normal(27, 4.5, count)
    platelets = rng.normal(250, 60, count)
    hemoglobin = rng.normal(13.5, 1.6, count)
    marker = rng.normal(0.4, 0.15, count)
    female = rng.integers(0, 2, count)
    smoker = rng.integers(0, 2, count)
    treated = rng.integers(0, 2, count)

    score = 0.5 * (age - 62) / 11 + 0.3 * (creatinine - 85) / 20 + 0.5 * smoker
    score = score + 0.7 * ((bmi - 27) / 4.5) ** 2 + 0.6 * np.abs((hemoglobin - 13.5) / 1.6)
    score = score - 1.2 * (treated - 0.5) * (marker - 0.4) / 0.15
    lifetime = rng.exponential(1.0, count) / (0.04 * np.exp(score))
    censoring = rng.uniform(1.0, 30.0, count)
    time = np.minimum(lifetime, censoring)
    event = lifetime <= censoring

    covariates = np.stack(
        [age, pressure, creatinine, bmi, platelets, hemoglobin, marker, female, smoker, treated],
        axis=1,
    )
    return [torch.tensor(values, dtype=torch.float32) for values in (covariates, time, event)]


class RiskNet(nn.Module):
    """The logarithm of a patient's hazard ratio."""

    def __init__(self, inputs, hidden, dropout):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(inputs, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.net(x).squeeze(1)


def cox_loss(log_risk, time, event):
    """Negative partial log likelihood: who dies, among all who are still observed at that time?"""
    order = torch.argsort(time, descending=True)
    log_risk, event = log_risk[order], event[order]
    log_at_risk = torch.logcumsumexp(log_risk, dim=0)
    return -((log_risk - log_at_risk) * event).sum() / event.sum()


def concordance_index(log_risk, time, event):
    """Share of the comparable pairs in which the one who died first had the higher risk."""
    comparable = (time[:, None] < time[None, :]) & (event[:, None] > 0)
    difference = log_risk[:, None] - log_risk[None, :]
    agreed = (difference > 0).float() + 0.5 * (difference == 0).float()
    return agreed[comparable].mean().item()


def train_epoch(model, optimizer, data, batch_size):
    model.train()
    x, time, event = data
    total, batches = 0.0, 0
    for index in torch.randperm(len(x)).split(batch_size):
        optimizer.zero_grad()
        loss = cox_loss(model(x[index]), time[index], event[index])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        total += loss.item()
        batches += 1
    return total / batches


@torch.no_grad()
def evaluate(model, data):
    model.eval()
    x, time, event = data
    return concordance_index(model(x), time, event)


def main():
    args = parse_args()
    torch.manual_seed(args.seed)
    x, time, event = simulate_patients(24480, args.seed)
    parts = torch.randperm(len(x)).split([20480, 2000, 2000])
    (x_train, x_val, x_test) = (x[part] for part in parts)
    mean, std = x_train.mean(dim=0), x_train.std(dim=0)
    x_train = (x_train - mean) / std
    x_val = (x_val - mean) / std
    x_test = (x_test - mean) / std
    train_data = (x_train, time[parts[0]], event[parts[0]])
    val_data = (x_val, time[parts[1]], event[parts[1]])
    test_data = (x_test, time[parts[2]], event[parts[2]])
    print(f"{len(x_train)} patients, {event.mean().item():.0%} of the deaths observed")

    model = RiskNet(x.shape[1], args.hidden, args.dropout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)
    best, kept = 0.0, None
    for epoch in range(args.epochs):
        loss = train_epoch(model, optimizer, train_data, args.batch_size)
        scheduler.step()
        score = evaluate(model, val_data)
        if score > best:
            best, kept = score, copy.deepcopy(model.state_dict())
        print(f"epoch {epoch + 1:2d}  loss {loss:.4f}  validation c-index {score:.4f}")

    model.load_state_dict(kept)
    print(f"test c-index of the kept model: {evaluate(model, test_data):.4f}")


if __name__ == "__main__":
    main()
