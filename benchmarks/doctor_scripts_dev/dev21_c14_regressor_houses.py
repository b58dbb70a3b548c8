"""House prices with an estimator in the manner of scikit-learn around a network."""

import copy
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses


@dataclass
class Standardizer:
    mean: torch.Tensor = field(default=None)
    std: torch.Tensor = field(default=None)

    def fit(self, values):
        self.mean, self.std = values.mean(0), values.std(0)
        return self

    def transform(self, values):
        return (values - self.mean) / self.std

    def inverse(self, values):
        return values * self.std + self.mean


def r2_score(truth, guess):
    return (1 - ((truth - guess) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()).item()


def mean_absolute_error(truth, guess):
    return (truth - guess).abs().mean().item()


class NetworkRegressor:
    def __init__(self, hidden=(192, 192), lr=2e-3, batch_size=128, max_epochs=120, patience=20, weight_decay=1e-3, seed=0):
        self.hidden, self.lr, self.batch_size = hidden, lr, batch_size
        self.max_epochs, self.patience, self.weight_decay, self.seed = max_epochs, patience, weight_decay, seed

    def _build(self, inputs):
        layers = []
        for width in self.hidden:
            layers += [nn.Linear(inputs, width), nn.SiLU()]
            inputs = width
        return nn.Sequential(*layers, nn.Linear(inputs, 1))

    def fit(self, x, y, x_val, y_val):
        torch.manual_seed(self.seed)
        self.x_scaler, self.y_scaler = Standardizer().fit(x), Standardizer().fit(y)
        train = TensorDataset(self.x_scaler.transform(x), self.y_scaler.transform(y))
        loader = DataLoader(train, self.batch_size, shuffle=True)
        self.net_ = self._build(x.shape[1])
        criterion = nn.HuberLoss(delta=1.0)
        optimizer = torch.optim.AdamW(self.net_.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=6)
        best, waited, best_state = np.inf, 0, None

        for epoch in range(self.max_epochs):
            self.net_.train()
            total = 0.0
            for xb, yb in loader:
                prediction = self.net_(xb).squeeze(-1)
                loss = criterion(prediction, yb)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item() * len(xb)

            guess = self.predict(x_val)
            error = mean_absolute_error(y_val, guess)
            scheduler.step(error)
            print(
                f"epoch {epoch:3d}  huber {total / len(train):.5f}  mae {error:6.2f}  r2 {r2_score(y_val, guess):.4f}  "
                f"lr {optimizer.param_groups[0]['lr']:.1e}"
            )
            if error < best:
                best, waited, best_state = error, 0, copy.deepcopy(self.net_.state_dict())
            else:
                waited += 1
                if waited == self.patience:
                    break
        self.net_.load_state_dict(best_state)
        return self

    @torch.no_grad()
    def predict(self, x):
        self.net_.eval()
        return self.y_scaler.inverse(self.net_(self.x_scaler.transform(x)).squeeze(-1))

    def score(self, x, y):
        return r2_score(y, self.predict(x))


def main():
    features, price = houses(8000, seed=0)
    # some columns as they come in life: areas in square meters, years, a share
    scale = torch.tensor([30.0, 1.0, 0.1, 5.0, 1.0, 12.0, 0.3, 1.0])
    offset = torch.tensor([110.0, 0.0, 0.5, 20.0, 0.0, 1975.0, 1.0, 0.0])
    features = features * scale + offset

    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(1))
    train, val, test = order[:6000], order[6000:7000], order[7000:]
    model = NetworkRegressor()
    model.fit(features[train], price[train], features[val], price[val])
    guess = model.predict(features[test])
    print(f"test: r2 {model.score(features[test], price[test]):.4f}, mae {mean_absolute_error(price[test], guess):.2f}")
    print(f"(guessing the mean: mae {mean_absolute_error(price[test], price[train].mean()):.2f})")


if __name__ == "__main__":
    main()
