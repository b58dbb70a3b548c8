"""DeepSurv: a Cox proportional hazards network on a generated cohort."""

import argparse
from copy import deepcopy

import numpy as np
import torch
from torch import nn

COLUMNS = ["age", "pressure", "marker", "dose", "stage", "bmi", "time", "event"]


def make_cohort(count, seed):
    """A table with the columns above: covariates in clinical units, follow-up in months, 1 for a death."""
    rng = np.random.default_rng(seed)
    age = rng.normal(62, 9, count)
    pressure = rng.normal(130, 15, count)
    marker = rng.lognormal(0, 0.6, count)
    dose = rng.uniform(0, 50, count)
    stage = rng.integers(1, 5, count)
    bmi = rng.normal(26, 4, count)
    risk = 0.9 * (age - 62) / 9 + 0.8 * (stage - 2.5) - 0.04 * (dose - 25) + 0.9 * np.log(marker)
    risk = risk + 0.5 * np.abs((bmi - 26) / 4)
    death = 40 * rng.exponential(1.0, count) * np.exp(-risk)
    censored = rng.exponential(90.0, count)
    time, event = np.minimum(death, censored), (death <= censored).astype(float)
    return np.stack([age, pressure, marker, dose, stage, bmi, time, event], axis=1).astype(np.float32)


def split_columns(table):
    return table[:, :-2], table[:, -2], table[:, -1]


class Standardizer:
    def fit(self, x):
        self.mean, self.std = x.mean(0), x.std(0)
        return self

    def transform(self, x):
        return (x - self.mean) / self.std


class RiskNet(nn.Module):
    def __init__(self, in_features, hidden=(32, 32), dropout=0.1):
        super().__init__()
        layers, width = [], in_features
        for size in hidden:
            layers += [nn.Linear(width, size), nn.SELU(), nn.Dropout(dropout)]
            width = size
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, 1, bias=False)

    def forward(self, x):
        return self.head(self.body(x)).squeeze(-1)


def cox_ph_loss(log_h, durations, events):
    """Negative partial log likelihood of Cox, divided by the number of events (Breslow)."""
    order = durations.argsort(descending=True)
    log_h, events = log_h[order], events[order]
    log_risk_set = torch.logcumsumexp(log_h, dim=0)
    return -((log_h - log_risk_set) * events).sum() / events.sum().clamp(min=1)


def concordance_index(risk, durations, events):
    """Of all pairs of which it is known who died first: the share in which that one had the higher risk."""
    earlier = (durations[:, None] < durations[None, :]) & (events[:, None] == 1)
    higher = (risk[:, None] > risk[None, :]) + 0.5 * (risk[:, None] == risk[None, :])
    return (higher * earlier).sum() / earlier.sum()


def batches(tensors, batch_size, generator):
    order = torch.randperm(len(tensors[0]), generator=generator)
    for indices in order.split(batch_size):
        yield tuple(tensor[indices] for tensor in tensors)


class CoxPH:
    """A model with fit and predict, in the manner of scikit-learn."""

    def __init__(self, net, lr, weight_decay):
        self.net = net
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=weight_decay)
        self.history = []

    @torch.no_grad()
    def predict(self, x):
        self.net.eval()
        return self.net(x).numpy()

    def fit(self, train, valid, epochs, batch_size, seed=0, verbose=True):
        generator = torch.Generator().manual_seed(seed)
        best, best_state = -1.0, None
        for epoch in range(epochs):
            self.net.train()
            losses = []
            for x, durations, events in batches(train, batch_size, generator):
                self.optimizer.zero_grad()
                log_h = self.net(x)
                loss = cox_ph_loss(log_h, durations, events)
                loss.backward()
                self.optimizer.step()
                losses.append(loss.item())
            c_index = concordance_index(self.predict(valid[0]), valid[1].numpy(), valid[2].numpy())
            self.history.append((float(np.mean(losses)), c_index))
            if c_index > best:
                best, best_state = c_index, deepcopy(self.net.state_dict())
            if verbose:
                print(f"{epoch:3d}  partial likelihood loss {self.history[-1][0]:.4f}  valid c-index {c_index:.4f}")
        self.net.load_state_dict(best_state)
        return self


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=1800)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--weight_decay", type=float, default=1e-6)
    args = parser.parse_args()

    torch.manual_seed(0)
    table = make_cohort(args.patients, seed=0)
    n_train, n_valid = int(0.7 * len(table)), int(0.15 * len(table))
    parts = table[:n_train], table[n_train : n_train + n_valid], table[n_train + n_valid :]
    scaler = Standardizer().fit(split_columns(parts[0])[0])

    def prepare(part):
        x, durations, events = split_columns(part)
        return torch.from_numpy(scaler.transform(x)), torch.from_numpy(durations), torch.from_numpy(events)

    train, valid, test = map(prepare, parts)
    print(f"{len(train[0])} patients for training, {int(train[2].sum())} deaths")
    model = CoxPH(RiskNet(train[0].shape[1]), lr=args.lr, weight_decay=args.weight_decay)
    model.fit(train, valid, args.epochs, args.batch_size)
    c_index = concordance_index(model.predict(test[0]), test[1].numpy(), test[2].numpy())
    print(f"test c-index {c_index:.4f}")


if __name__ == "__main__":
    main()
