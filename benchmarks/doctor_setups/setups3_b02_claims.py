"""A claim frequency model with the interface of scikit-learn."""

import numpy as np
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.preprocessing import StandardScaler
from torch import nn


def make_policies(n_policies, random_state):
    """Driver age, vehicle value, power, bonus-malus and density; exposure in years; number of claims."""
    rng = np.random.default_rng(random_state)
    age = rng.uniform(18, 80, n_policies)
    value = rng.lognormal(9.8, 0.4, n_policies)
    power = rng.uniform(45, 220, n_policies)
    bonus = rng.uniform(50, 150, n_policies)
    density = rng.lognormal(6.0, 0.8, n_policies)
    exposure = rng.uniform(0.25, 1.0, n_policies)
    log_rate = -0.2 + 1.3 * (age < 30) + 0.02 * (bonus - 90) + 0.006 * (power - 130) - 0.01 * (age - 45)
    claims = rng.poisson(np.exp(log_rate) * exposure)
    return np.stack([age, value, power, bonus, density], axis=1), exposure, claims


class _FrequencyNet(nn.Module):
    """Log of the expected number of claims. The last input is the log of the exposure, an offset."""

    def __init__(self, n_features, hidden_layer_sizes):
        super().__init__()
        sizes = (n_features,) + tuple(hidden_layer_sizes)
        layers = []
        for n_in, n_out in zip(sizes[:-1], sizes[1:]):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))

    def forward(self, x):
        log_rate = self.layers(x[:, :-1]).squeeze(-1)
        return log_rate + x[:, -1]


class PoissonMLPRegressor(RegressorMixin, BaseEstimator):
    """Parameters
    ----------
    hidden_layer_sizes : tuple of int
    C : float, inverse of the regularization strength, as in LogisticRegression
    learning_rate : float
    random_state : int
    """

    def __init__(self, hidden_layer_sizes=(32, 16), C=2000.0, learning_rate=5e-3, random_state=0):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.C = C
        self.learning_rate = learning_rate
        self.random_state = random_state

    def _validate_data_pair(self, Z, exposure, y):
        inputs = np.concatenate([Z, np.log(exposure)[:, None]], axis=1)
        return torch.tensor(inputs, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)

    def _make_optimizer(self, params):
        return torch.optim.Adam(params, lr=self.learning_rate, weight_decay=1.0 / self.C)

    def _make_loss(self):
        return nn.PoissonNLLLoss(log_input=True)

    def prepare(self, train, eval_set):
        """All that fit() needs: the network, both sets, the loss and the optimizer."""
        torch.manual_seed(self.random_state)
        (X, exposure, y), (Xv, exposure_v, yv) = train, eval_set
        self.n_features_in_ = X.shape[1]
        self.scaler_ = StandardScaler()
        Z = self.scaler_.fit_transform(X)
        Zv = self.scaler_.transform(Xv)
        self.module_ = _FrequencyNet(self.n_features_in_, self.hidden_layer_sizes)
        return {
            "model": self.module_,
            "train": self._validate_data_pair(Z, exposure, y),
            "val": self._validate_data_pair(Zv, exposure_v, yv),
            "loss": self._make_loss(),
            "optimizer": self._make_optimizer,
            "task": "regress",
        }


def setup():
    torch.manual_seed(0)
    estimator = PoissonMLPRegressor(hidden_layer_sizes=(32, 16), learning_rate=5e-3, random_state=0)
    return estimator.prepare(make_policies(1600, random_state=10), make_policies(400, random_state=11))
