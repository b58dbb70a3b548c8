"""House prices by full-batch L-BFGS: standardized features and target, a small smooth network, early stop on held-out rows."""
import copy

import numpy as np
import torch
import torch.nn as nn

from toydata import houses


class StandardScaler:
    def fit(self, x):
        self.mean_, self.scale_ = x.mean(0), x.std(0)
        return self

    def transform(self, x):
        return (x - self.mean_) / self.scale_

    def inverse_transform(self, x):
        return x * self.scale_ + self.mean_


def r2_score(truth, predicted):
    return 1 - ((truth - predicted) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()


class SmoothNet(nn.Module):
    def __init__(self, features, hidden=24):
        super().__init__()
        self.linear = nn.Linear(features, 1)
        self.hidden = nn.Sequential(nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, x):
        return (self.linear(x) + self.hidden(x)).squeeze(-1)


class LBFGSRegressor:
    """fit and predict as in the well-known machine learning library."""

    def __init__(self, hidden=24, alpha=2e-3, max_rounds=60, patience=10, random_state=0):
        self.hidden, self.alpha, self.max_rounds, self.patience, self.random_state = hidden, alpha, max_rounds, patience, random_state

    def fit(self, x, y, validation_data):
        torch.manual_seed(self.random_state)
        self.x_scaler_, self.y_scaler_ = StandardScaler().fit(x), StandardScaler().fit(y)
        inputs, targets = self.x_scaler_.transform(x), self.y_scaler_.transform(y)
        self.net_ = SmoothNet(x.shape[1], self.hidden)
        optimizer = torch.optim.LBFGS(self.net_.parameters(), lr=1.0, max_iter=8, history_size=20, line_search_fn="strong_wolfe")
        best, kept, waited = float("inf"), None, 0

        def closure():
            optimizer.zero_grad()
            mse = nn.functional.mse_loss(self.net_(inputs), targets)
            penalty = sum((p ** 2).sum() for p in self.net_.parameters() if p.ndim > 1)
            loss = mse + self.alpha * penalty
            loss.backward()
            return loss

        for round_ in range(self.max_rounds):
            self.net_.train()
            loss = optimizer.step(closure)
            error = ((self.predict(validation_data[0]) - validation_data[1]) ** 2).mean().sqrt().item()
            if round_ % 5 == 0:
                print(f"round {round_:2d} objective {loss.item():.5f} validation rmse {error:.3f}")
            if error < best - 1e-3:
                best, kept, waited = error, copy.deepcopy(self.net_.state_dict()), 0
            else:
                waited += 1
                if waited >= self.patience:
                    break
        self.net_.load_state_dict(kept)
        return self

    @torch.no_grad()
    def predict(self, x):
        self.net_.eval()
        return self.y_scaler_.inverse_transform(self.net_(self.x_scaler_.transform(x)))


def train_test_split(count, fractions, seed):
    order = np.random.default_rng(seed).permutation(count)
    cuts = np.cumsum([int(f * count) for f in fractions])[:-1]
    return [torch.from_numpy(part) for part in np.split(order, cuts)]


def main():
    x, y = houses(2000, seed=0)
    x = x * torch.tensor([1.0, 30.0, 0.1, 5.0, 1.0, 100.0, 2.0, 0.01]) + torch.tensor([3.0, 120.0, 0.5, 20.0, 0.0, 1900.0, 7.0, 0.1])
    train, valid, test = train_test_split(len(x), (0.7, 0.15, 0.15), seed=1)
    baseline = (y[test] - y[train].mean()).pow(2).mean().sqrt()
    print(f"always the mean: rmse {baseline:.2f}")
    model = LBFGSRegressor().fit(x[train], y[train], validation_data=(x[valid], y[valid]))
    for name, rows in (("train", train), ("valid", valid), ("test", test)):
        predicted = model.predict(x[rows])
        print(f"{name}: rmse {(predicted - y[rows]).pow(2).mean().sqrt():.3f} R2 {r2_score(y[rows], predicted):.4f}")


if __name__ == "__main__":
    main()
