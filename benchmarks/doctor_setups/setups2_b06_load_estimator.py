"""Short-term load forecasting: a GRU behind the interface of a scikit-learn estimator."""

import numpy as np
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def make_load(hours=2000, seed=0):
    """Hourly load in MW: a daily cycle of slowly varying strength, and weather."""
    rng = np.random.default_rng(seed)
    weather, strength = np.zeros(hours), np.zeros(hours)
    for t in range(1, hours):
        weather[t] = 0.9 * weather[t - 1] + rng.normal(0, 90)
        strength[t] = 0.99 * strength[t - 1] + rng.normal(0, 0.03)
    hour = np.arange(hours)
    cycle = np.sin(2 * np.pi * hour / 24) + 0.3 * np.sin(4 * np.pi * hour / 24)
    return 5200 + 800 * (1 + strength) * cycle + weather


def make_windows(series, lookback, horizon=1):
    """Returns (n, lookback, 1) inputs and the (n,) values `horizon` hours later."""
    starts = range(len(series) - lookback - horizon + 1)
    x = np.stack([series[s : s + lookback] for s in starts])
    y = np.array([series[s + lookback + horizon - 1] for s in starts])
    return x[..., None].astype(np.float32), y.astype(np.float32)


class GRUNet(nn.Module):
    def __init__(self, hidden_size):
        super().__init__()
        self.gru = nn.GRU(1, hidden_size, batch_first=True)
        self.out = nn.Linear(hidden_size, 1)

    def forward(self, x):
        states, _ = self.gru(x)
        last = states[:, -1]
        return self.out(last).squeeze(-1)


class GRUForecaster(BaseEstimator, RegressorMixin):
    """Parameters as in scikit-learn; `build` gives what `fit` would train.

    lookback : hours that are seen
    test_size : share of the series, at its end, that is held out
    """

    def __init__(self, lookback=18, hidden_size=24, batch_size=32, learning_rate=5e-3, test_size=0.25,
                 max_norm=1.0, random_state=0):
        self.lookback = lookback
        self.hidden_size = hidden_size
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.test_size = test_size
        self.max_norm = max_norm
        self.random_state = random_state

    def _split(self, series):
        cut = int(len(series) * (1 - self.test_size))
        self.scaler_ = StandardScaler().fit(series[:cut, None])
        scaled = self.scaler_.transform(series[:, None])[:, 0]
        train = make_windows(scaled[:cut], self.lookback)
        test = make_windows(scaled[cut:], self.lookback)
        return train, test

    def _partial_fit_batch(self, module, batch, optimizer, loss):
        x, y = batch
        module.train()
        optimizer.zero_grad()
        value = loss(module(x), y)
        value.backward()
        nn.utils.clip_grad_norm_(module.parameters(), self.max_norm)
        optimizer.step()
        return value

    def build(self, series):
        torch.manual_seed(self.random_state)
        (x_train, y_train), (x_test, y_test) = self._split(series)
        train = TensorDataset(torch.from_numpy(x_train), torch.from_numpy(y_train))
        test = TensorDataset(torch.from_numpy(x_test), torch.from_numpy(y_test))
        self.module_ = GRUNet(self.hidden_size)
        self.optimizer_ = torch.optim.Adam(self.module_.parameters(), lr=self.learning_rate)
        return {
            "model": self.module_,
            "train": DataLoader(train, batch_size=self.batch_size, shuffle=True),
            "val": DataLoader(test, batch_size=128, shuffle=False),
            "loss": nn.MSELoss(),
            "optimizer": self.optimizer_,
            "step": self._partial_fit_batch,
            "task": "regress",
        }


def setup():
    torch.manual_seed(0)
    return GRUForecaster(lookback=18, hidden_size=24).build(make_load())
