"""DeepSurv: a Cox proportional hazards network on simulated patients."""
import copy
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

cfg = SimpleNamespace(
    n_train=896, n_valid=300, hidden=[32, 32], dropout=0.1, lr=3e-3, weight_decay=1e-4,
    batch_size=64, epochs=15, patience=6, seed=7,
)
COLUMNS = ["age", "bmi", "marker_a", "marker_b", "stage", "smoker", "treated", "site"]


def simulate(n, rng):
    """Covariates, observed durations (months) and event indicators of n patients."""
    age = rng.normal(60, 10, n)
    bmi = rng.normal(26, 4, n)
    marker_a, marker_b = rng.normal(0, 1, n), rng.normal(0, 1, n)
    stage = rng.integers(1, 5, n).astype(float)
    smoker, treated = rng.binomial(1, 0.4, n).astype(float), rng.binomial(1, 0.5, n).astype(float)
    site = np.ones(n)  # a single hospital so far
    log_risk = (
        0.06 * (age - 60) + 0.9 * marker_a + 0.6 * np.abs(marker_b) + 0.5 * (stage - 2.5)
        + 0.5 * smoker - 0.8 * treated
    )
    time_to_event = rng.exponential(24 * np.exp(-log_risk))
    censoring = rng.uniform(6, 80, n)
    durations = np.minimum(time_to_event, censoring)
    events = (time_to_event <= censoring).astype(np.float32)
    x = np.stack([age, bmi, marker_a, marker_b, stage, smoker, treated, site], axis=1)
    return x.astype(np.float32), durations.astype(np.float32), events


class Standardizer:
    def fit(self, x):
        self.mean = x.mean(axis=0)
        self.std = np.maximum(x.std(axis=0), 1e-3)
        return self

    def transform(self, x):
        return (x - self.mean) / self.std


def mlp(in_features, hidden, dropout):
    layers, width = [], in_features
    for units in hidden:
        layers += [nn.Linear(width, units), nn.ReLU(), nn.Dropout(dropout)]
        width = units
    # no bias: the partial likelihood does not see a constant
    layers.append(nn.Linear(width, 1, bias=False))
    return nn.Sequential(*layers)


def cox_ph_loss(log_h, durations, events):
    """Negative log partial likelihood; the risk set is made of the patients of the batch."""
    order = durations.argsort(descending=True)
    log_h = log_h.view(-1)[order]
    events = events[order]
    log_risk_set = torch.logcumsumexp(log_h, dim=0)
    return -((log_h - log_risk_set) * events).sum() / events.sum().clamp(min=1)


def concordance_index(durations, events, risk):
    """Harrell's C: of comparable pairs, how many have the higher risk die first."""
    first = (durations[:, None] < durations[None, :]) & (events[:, None] == 1)
    higher = (risk[:, None] > risk[None, :]).float() + 0.5 * (risk[:, None] == risk[None, :]).float()
    return (higher * first).sum().item() / first.sum().item()


def batches(tensors, batch_size, generator):
    n = len(tensors[0])
    for index in torch.randperm(n, generator=generator).split(batch_size):
        if len(index) > 1:
            yield [t[index] for t in tensors]


def train_epoch(net, optimizer, train, generator):
    net.train()
    total, seen = 0.0, 0
    for x, durations, events in batches(train, cfg.batch_size, generator):
        optimizer.zero_grad()
        loss = cox_ph_loss(net(x), durations, events)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(x)
        seen += len(x)
    return total / seen


@torch.no_grad()
def evaluate(net, valid):
    net.eval()
    x, durations, events = valid
    log_h = net(x)
    loss = cox_ph_loss(log_h, durations, events).item()
    return loss, concordance_index(durations, events, log_h.view(-1))


def main():
    rng = np.random.default_rng(cfg.seed)
    torch.manual_seed(cfg.seed)
    generator = torch.Generator().manual_seed(cfg.seed)

    x_train, *y_train = simulate(cfg.n_train, rng)
    x_valid, *y_valid = simulate(cfg.n_valid, rng)
    scaler = Standardizer().fit(x_train)
    train = [torch.from_numpy(a) for a in (scaler.transform(x_train), *y_train)]
    valid = [torch.from_numpy(a) for a in (scaler.transform(x_valid), *y_valid)]
    print(f"{len(COLUMNS)} covariates, {y_train[1].mean():.0%} events in training")

    net = mlp(len(COLUMNS), cfg.hidden, cfg.dropout)
    optimizer = torch.optim.Adam(net.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)

    best_c, best_epoch, best_weights = 0.0, 0, copy.deepcopy(net.state_dict())
    for epoch in range(cfg.epochs):
        train_loss = train_epoch(net, optimizer, train, generator)
        valid_loss, c_index = evaluate(net, valid)
        print(f"{epoch:3d}: train_loss {train_loss:.4f}  val_loss {valid_loss:.4f}  val_c {c_index:.4f}")
        if c_index > best_c or epoch == 0:
            best_c, best_epoch = c_index, epoch
            best_weights = copy.deepcopy(net.state_dict())
        elif epoch - best_epoch >= cfg.patience:
            print("early stopping")
            break

    net.load_state_dict(best_weights)
    loss, c_index = evaluate(net, valid)
    print(f"best epoch {best_epoch}: partial likelihood {loss:.4f}, C-index {c_index:.4f}")


if __name__ == "__main__":
    main()
