"""A neural Poisson regressor with the manners of scikit-learn: claim counts of fleet policies, exposure as offset."""
import numpy as np
import torch
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


def make_policies(n_policies=1800, random_state=0):
    """Rating factors, exposure in years, number of claims."""
    rng = np.random.RandomState(random_state)
    age = rng.uniform(18, 75, n_policies)
    power = rng.gamma(4.0, 20.0, n_policies)
    vehicle_age = rng.exponential(6.0, n_policies)
    density = rng.lognormal(5.0, 1.0, n_policies)
    bonus = rng.uniform(50, 150, n_policies)
    exposure = rng.uniform(0.3, 3.0, n_policies)
    log_rate = 0.2 + 0.5 * ((age - 46) / 16) ** 2 - 0.4 * (age - 46) / 16
    log_rate = log_rate + 0.006 * (power - 80) + 0.012 * (bonus - 100) - 0.03 * (vehicle_age - 6) - 0.4
    claims = rng.poisson(exposure * np.exp(log_rate.clip(-3, 2)))
    features = np.stack([age, power, vehicle_age, np.log(density), bonus], axis=1)
    return features, exposure, claims


class PoissonNet(nn.Module):
    """log E[claims] = f(features) + log(exposure); the last column of x is log(exposure)."""

    def __init__(self, n_features, hidden_layer_sizes):
        super().__init__()
        sizes = (n_features,) + tuple(hidden_layer_sizes)
        layers = []
        for n_in, n_out in zip(sizes[:-1], sizes[1:]):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        self.hidden = nn.Sequential(*layers)
        self.out = nn.Linear(sizes[-1], 1)

    def forward(self, x):
        features, offset = x[:, :-1], x[:, -1:]
        eta = self.out(self.hidden(features)) + offset
        return eta.squeeze(1)


class PoissonLoss(nn.Module):
    """Negative log likelihood of counts, up to a constant; `eta` is the logarithm of the mean."""

    def forward(self, eta, counts):
        return F.poisson_nll_loss(eta, counts, log_input=True)


class NeuralPoissonRegressor:
    """Parameters
    ----------
    hidden_layer_sizes : tuple, default=(32, 32)
    alpha : float, default=1e-5, strength of the L2 penalty
    learning_rate_init : float, default=3e-3
    batch_size : int, default=64
    """

    def __init__(self, hidden_layer_sizes=(32, 32), alpha=1e-5, learning_rate_init=3e-3, batch_size=64, random_state=None):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.alpha = alpha
        self.learning_rate_init = learning_rate_init
        self.batch_size = batch_size
        self.random_state = random_state

    def _validate(self, X, exposure, y, reset):
        if reset:
            self.scaler_ = StandardScaler().fit(X)
        columns = np.column_stack([self.scaler_.transform(X), np.log(exposure)])
        return TensorDataset(torch.tensor(columns, dtype=torch.float32), torch.tensor(y, dtype=torch.float32))

    def _initialize(self, n_features):
        torch.manual_seed(self.random_state)
        self.module_ = PoissonNet(n_features, self.hidden_layer_sizes)
        self.criterion_ = PoissonLoss()
        self.optimizer_ = torch.optim.Adam(self.module_.parameters(), lr=self.learning_rate_init, weight_decay=self.alpha)

    @staticmethod
    def _partial_fit_batch(module, batch, optimizer, criterion):
        X, y = batch
        module.train()
        optimizer.zero_grad()
        value = criterion(module(X), y)
        value.backward()
        optimizer.step()
        return value

    def prepare(self, X, exposure, y, X_val, exposure_val, y_val):
        dataset = self._validate(X, exposure, y, reset=True)
        held_out = self._validate(X_val, exposure_val, y_val, reset=False)
        self._initialize(X.shape[1])
        loader = DataLoader(dataset, batch_size=self.batch_size, shuffle=True)
        return loader, DataLoader(held_out, batch_size=256)


def setup():
    torch.manual_seed(0)
    features, exposure, claims = make_policies()
    X, X_val, e, e_val, y, y_val = train_test_split(features, exposure, claims, test_size=0.2, random_state=0)
    est = NeuralPoissonRegressor(hidden_layer_sizes=(32, 32), random_state=0)
    train, val = est.prepare(X, e, y, X_val, e_val, y_val)
    return dict(
        model=est.module_,
        train=train,
        val=val,
        loss=est.criterion_,
        optimizer=est.optimizer_,
        step=est._partial_fit_batch,
        task="regress",
    )
