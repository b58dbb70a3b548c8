"""House prices with an estimator in the manner of scikit-learn."""

import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.preprocessing import StandardScaler
from torch import nn

from toydata import houses


class PriceNet(nn.Module):
    def __init__(self, n_features, hidden_layer_sizes=(64, 64)):
        super().__init__()
        layers, width = [], n_features
        for size in hidden_layer_sizes:
            layers += [nn.Linear(width, size), nn.ReLU()]
            width = size
        layers.append(nn.Linear(width, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, X):
        return self.layers(X).squeeze(-1)


class TorchRegressor(RegressorMixin, BaseEstimator):
    """Prices are standardized for the network, and given back in dollars by `predict`."""

    def __init__(self, hidden_layer_sizes=(64, 64), learning_rate=3e-3, alpha=1e-5, max_norm=10.0, random_state=0):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.learning_rate = learning_rate
        self.alpha = alpha
        self.max_norm = max_norm
        self.random_state = random_state

    def initialize(self, X, y):
        torch.manual_seed(self.random_state)
        self.x_scaler_ = StandardScaler().fit(X)
        self.y_scaler_ = StandardScaler().fit(y.reshape(-1, 1))
        self.module_ = PriceNet(X.shape[1], self.hidden_layer_sizes)
        self.optimizer_ = torch.optim.Adam(
            self.module_.parameters(), lr=self.learning_rate, weight_decay=self.alpha
        )
        return self

    def to_tensors(self, X, y):
        X = self.x_scaler_.transform(X)
        y = self.y_scaler_.transform(y.reshape(-1, 1)).ravel()
        return torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(y, dtype=torch.float32)

    def get_loss(self, y_pred, y_true):
        return nn.functional.mse_loss(y_pred, y_true)

    def train_step_single(self, module, batch, optimizer, criterion):
        Xi, yi = batch
        module.train()
        optimizer.zero_grad()
        y_pred = module(Xi)
        loss = criterion(y_pred, yi)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), self.max_norm)
        optimizer.step()
        return loss

    def predict(self, X):
        self.module_.eval()
        X = torch.as_tensor(self.x_scaler_.transform(X), dtype=torch.float32)
        with torch.no_grad():
            y = self.module_(X).numpy()
        return self.y_scaler_.inverse_transform(y.reshape(-1, 1)).ravel()


def load_prices(count, seed):
    X, price = houses(count, seed=seed)
    return X.numpy(), 1000.0 * price.numpy()


def setup():
    torch.manual_seed(0)
    X_train, y_train = load_prices(1400, seed=0)
    X_test, y_test = load_prices(300, seed=1)

    estimator = TorchRegressor().initialize(X_train, y_train)
    return {
        "model": estimator.module_,
        "train": estimator.to_tensors(X_train, y_train),
        "val": estimator.to_tensors(X_test, y_test),
        "loss": estimator.get_loss,
        "optimizer": estimator.optimizer_,
        "step": estimator.train_step_single,
        "task": "regress",
    }
