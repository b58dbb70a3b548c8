"""House prices with small tanh networks, fitted by L-BFGS on the full training set.

Three networks start from different weights; each keeps the state with the lowest validation error, and their
predictions are averaged on the test set.
"""

import copy

import numpy as np
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from torch import nn

from toydata import houses

N_MEMBERS = 3
ROUNDS = 25
HIDDEN = 32


class Standardizer:
    def fit(self, values):
        self.mean, self.std = values.mean(0), values.std(0)
        return self

    def transform(self, values):
        return (values - self.mean) / self.std

    def inverse(self, values):
        return values * self.std + self.mean


def make_net():
    net = nn.Sequential(
        nn.Linear(8, HIDDEN), nn.Tanh(),
        nn.Linear(HIDDEN, HIDDEN), nn.Tanh(),
        nn.Linear(HIDDEN, 1), nn.Flatten(0),
    )
    for module in net:
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight)
            nn.init.zeros_(module.bias)
    return net


def objective(net, inputs, targets, decay):
    """Mean squared error of standardized prices and a penalty on the weights (not on the biases)."""
    penalty = sum((p ** 2).sum() for p in net.parameters() if p.dim() == 2)
    return ((net(inputs) - targets) ** 2).mean() + decay * penalty


@torch.no_grad()
def error(net, inputs, targets):
    return float(((net(inputs) - targets) ** 2).mean())


def fit_member(seed, train, valid, decay=3e-4):
    torch.manual_seed(seed)
    net = make_net()
    optimizer = torch.optim.LBFGS(
        net.parameters(), lr=1.0, max_iter=10, history_size=20, line_search_fn="strong_wolfe"
    )
    inputs, targets = train

    def closure():
        optimizer.zero_grad()
        loss = objective(net, inputs, targets, decay)
        loss.backward()
        return loss

    lowest, kept = float("inf"), None
    for round_ in range(ROUNDS):
        loss = optimizer.step(closure)
        current = error(net, *valid)
        if current < lowest:
            lowest, kept = current, copy.deepcopy(net.state_dict())
        if round_ % 6 == 0:
            print(f"  member {seed} round {round_:2d}  objective {float(loss):.5f}  validation {current:.5f}")
    net.load_state_dict(kept)
    print(f"  member {seed} keeps validation error {lowest:.5f}")
    return net


def main():
    features, price = houses(count=1600)
    order = np.arange(len(price))
    rest, test_rows = train_test_split(order, test_size=0.15, random_state=0)
    train_rows, valid_rows = train_test_split(rest, test_size=0.18, random_state=0)

    scale_x = Standardizer().fit(features[train_rows])
    scale_y = Standardizer().fit(price[train_rows])

    def part(rows):
        return scale_x.transform(features[rows]), scale_y.transform(price[rows])

    train, valid, test = part(train_rows), part(valid_rows), part(test_rows)
    print(f"{len(train_rows)} houses to train with, {len(valid_rows)} to choose with, {len(test_rows)} to test with")

    members = [fit_member(seed, train, valid) for seed in range(N_MEMBERS)]

    with torch.no_grad():
        each = torch.stack([scale_y.inverse(net(test[0])) for net in members])
    truth = price[test_rows].numpy()
    for seed, prediction in enumerate(each):
        print(f"member {seed}: MAE {mean_absolute_error(truth, prediction.numpy()):.2f}")
    averaged = each.mean(0).numpy()
    print(f"ensemble: MAE {mean_absolute_error(truth, averaged):.2f}  R2 {r2_score(truth, averaged):.4f}")

    ridge = Ridge().fit(train[0].numpy(), train[1].numpy())
    linear = scale_y.inverse(torch.from_numpy(ridge.predict(test[0].numpy()))).numpy()
    print(f"ridge:    MAE {mean_absolute_error(truth, linear):.2f}  R2 {r2_score(truth, linear):.4f}")


if __name__ == "__main__":
    main()
