"""A scikit-learn-like estimator that forecasts the next days of several stores' sales from windows of the past."""

import numpy as np
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def daily_sales(n_stores=6, n_days=390, seed=0):
    """Sales in pieces, days x stores: a weekly rhythm of each store, a slow season, and noise that lasts for days."""
    rng = np.random.RandomState(seed)
    days = np.arange(n_days)
    series = []
    for _ in range(n_stores):
        week = rng.normal(0, 1.0, 7)[days % 7]
        season = np.sin(2 * np.pi * (days / 90 + rng.rand()))
        slow = np.zeros(n_days)
        for t in range(1, n_days):
            slow[t] = 0.9 * slow[t - 1] + 0.15 * rng.normal()
        series.append(1000 + 300 * (week + season + slow + 0.1 * rng.normal(size=n_days)))
    return np.stack(series, axis=1)


def make_windows(series, window, horizon, stride=1):
    """All windows of each store: X (n, window), y (n, horizon) are the days that follow."""
    X, y = [], []
    for store in range(series.shape[1]):
        values = series[:, store]
        for start in range(0, len(values) - window - horizon + 1, stride):
            X.append(values[start : start + window])
            y.append(values[start + window : start + window + horizon])
    return np.stack(X).astype(np.float32), np.stack(y).astype(np.float32)


class WindowNet(nn.Module):
    def __init__(self, window, horizon, hidden_size=64, dropout=0.0):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(window, hidden_size),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
        )
        self.out = nn.Linear(hidden_size, horizon)

    def forward(self, x):
        return self.out(self.layers(x))


class WindowForecaster(RegressorMixin, BaseEstimator):
    def __init__(self, window=28, horizon=3, hidden_size=64, solver="adam", lr=2e-3, momentum=0.9, alpha=1e-5,
                 batch_size=50, test_days=80, random_state=0):
        self.window = window
        self.horizon = horizon
        self.hidden_size = hidden_size
        self.solver = solver
        self.lr = lr
        self.momentum = momentum
        self.alpha = alpha
        self.batch_size = batch_size
        self.test_days = test_days
        self.random_state = random_state

    def _split(self, series):
        """The last days are held out; no window of one part has a day of the other."""
        X_train, y_train = make_windows(series[: -self.test_days], self.window, self.horizon)
        X_test, y_test = make_windows(series[-self.test_days :], self.window, self.horizon)
        return X_train, X_test, y_train, y_test

    def _scale(self, X_train, X_test, y_train, y_test):
        self.scaler_ = StandardScaler().fit(X_train.reshape(-1, 1))

        def scale(a):
            return torch.from_numpy(self.scaler_.transform(a.reshape(-1, 1)).reshape(a.shape).astype(np.float32))

        return scale(X_train), scale(X_test), scale(y_train), scale(y_test)

    def _loader(self, X, y, shuffle):
        return DataLoader(TensorDataset(X, y), batch_size=self.batch_size, shuffle=shuffle)

    def _make_optimizer(self, params):
        if self.solver == "sgd":
            return torch.optim.SGD(params, lr=self.lr, momentum=self.momentum, weight_decay=self.alpha)
        return torch.optim.Adam(params, lr=self.lr, weight_decay=self.alpha)

    def _loss(self, y_pred, y_true):
        mse = ((y_true - y_pred) ** 2).mean()
        return mse

    def initialize(self, series):
        torch.manual_seed(self.random_state)
        X_train, X_test, y_train, y_test = self._scale(*self._split(series))
        self.module_ = WindowNet(self.window, self.horizon, self.hidden_size)
        self.train_loader_ = self._loader(X_train, y_train, shuffle=True)
        self.test_loader_ = self._loader(X_test, y_test, shuffle=False)
        self.optimizer_ = self._make_optimizer(self.module_.parameters())
        return self


def setup():
    torch.manual_seed(0)
    est = WindowForecaster(window=28, horizon=3).initialize(daily_sales(seed=7))
    return {
        "model": est.module_,
        "train": est.train_loader_,
        "val": est.test_loader_,
        "loss": est._loss,
        "optimizer": est.optimizer_,
        "task": "regress",
    }
