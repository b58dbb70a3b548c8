"""DeepSurv: a Cox proportional hazards network on a simulated cohort."""

import argparse
import copy

import numpy as np
import torch
import torch.nn as nn
from sklearn.preprocessing import StandardScaler

FEATURES = ["age", "bmi", "marker", "grade", "treated", "pulse", "sodium", "ferritin"]


def simulate_cohort(n, seed):
    rng = np.random.default_rng(seed)
    age = rng.normal(60, 11, n)
    bmi = rng.normal(27, 4.5, n)
    marker = rng.normal(4, 1.2, n)
    grade = rng.integers(1, 4, n)
    treated = rng.integers(0, 2, n)
    pulse, sodium, ferritin = rng.normal(72, 9, n), rng.normal(140, 3, n), rng.normal(110, 40, n)
    log_hazard = 0.08 * (age - 60) + 0.9 * (marker - 4) + 0.6 * (grade - 2) * (1 - 2 * treated) + 0.02 * (bmi - 27) ** 2
    onset = rng.exponential(1.0, n) * 100 * np.exp(-log_hazard)
    censoring = rng.uniform(20, 400, n)
    x = np.stack([age, bmi, marker, grade, treated, pulse, sodium, ferritin], axis=1)
    durations = np.minimum(onset, censoring)
    events = onset <= censoring
    return x.astype("float32"), durations.astype("float32"), events.astype("float32")


class SurvivalMLP(nn.Module):
    def __init__(self, in_features, num_nodes, dropout=0.1):
        super().__init__()
        blocks = []
        for width in num_nodes:
            blocks.append(nn.Sequential(nn.Linear(in_features, width), nn.ReLU(), nn.BatchNorm1d(width), nn.Dropout(dropout)))
            in_features = width
        self.blocks = nn.ModuleList(blocks)
        # the baseline hazard takes the intercept
        self.out = nn.Linear(in_features, 1, bias=False)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.out(x).squeeze(-1)


def cox_ph_loss(log_h, durations, events):
    """Negative partial log-likelihood; the risk set of a subject is everyone who lasted at least as long."""
    order = durations.sort(descending=True)[1]
    events, log_h = events[order], log_h[order]
    log_risk_set = log_h.logcumsumexp(0)
    return -((log_h - log_risk_set) * events).sum() / events.sum().clamp(min=1)


def concordance_index(durations, events, risk):
    comparable = (durations[:, None] < durations[None, :]) & (events[:, None] > 0)
    concordant = (risk[:, None] > risk[None, :]) + 0.5 * (risk[:, None] == risk[None, :])
    return float((concordant * comparable).sum() / comparable.sum())


class CoxPH:
    def __init__(self, net, lr, weight_decay, device="cpu"):
        self.net = net.to(device)
        self.device = device
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=weight_decay)
        self.log = []

    def fit(self, train, val, batch_size, epochs, max_lr):
        x, durations, events = (part.to(self.device) for part in train)
        steps = (len(x) + batch_size - 1) // batch_size
        scheduler = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, max_lr=max_lr, total_steps=steps * epochs)
        best, best_weights = 0.0, copy.deepcopy(self.net.state_dict())
        for epoch in range(epochs):
            self.net.train()
            total = 0.0
            for rows in torch.randperm(len(x)).split(batch_size):
                log_h = self.net(x[rows])
                loss = cox_ph_loss(log_h, durations[rows], events[rows])
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                scheduler.step()
                total += loss.item() * len(rows)
            val_concordance = self.score(val)
            self.log.append((total / len(x), val_concordance))
            if val_concordance > best:
                best, best_weights = val_concordance, copy.deepcopy(self.net.state_dict())
            if epoch % max(1, epochs // 12) == 0:
                print(f"{epoch}:\ttrain_loss: {total / len(x):.4f},\tval_concordance: {val_concordance:.4f}")
        self.net.load_state_dict(best_weights)
        return self

    @torch.no_grad()
    def predict(self, x, batch_size=256):
        self.net.eval()
        return np.concatenate([self.net(part.to(self.device)).cpu().numpy() for part in x.split(batch_size)]).ravel()

    def score(self, data):
        x, durations, events = data
        return concordance_index(durations.numpy(), events.numpy(), self.predict(x))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--weight_decay", type=float, default=1e-4)
    parser.add_argument("--num_nodes", type=int, nargs="+", default=[32, 32])
    parser.add_argument("--seed", type=int, default=1234)
    args = parser.parse_args()

    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    x_train, t_train, e_train = simulate_cohort(1400, seed=args.seed)
    x_val, t_val, e_val = simulate_cohort(300, seed=args.seed + 1)
    x_test, t_test, e_test = simulate_cohort(300, seed=args.seed + 2)

    scaler = StandardScaler().fit(x_train)
    x_train = scaler.transform(x_train).astype("float32")
    x_val = scaler.transform(x_val).astype("float32")
    x_test = scaler.transform(x_test).astype("float32")

    train = tuple(map(torch.from_numpy, (x_train, t_train, e_train)))
    val = tuple(map(torch.from_numpy, (x_val, t_val, e_val)))
    test = tuple(map(torch.from_numpy, (x_test, t_test, e_test)))

    model = CoxPH(SurvivalMLP(len(FEATURES), args.num_nodes), lr=args.lr, weight_decay=args.weight_decay)
    model.fit(train, val, args.batch_size, args.epochs, max_lr=args.lr)
    print(f"events in training: {e_train.mean():.2f}")
    print(f"test concordance: {model.score(test):.4f}")


if __name__ == "__main__":
    main()
