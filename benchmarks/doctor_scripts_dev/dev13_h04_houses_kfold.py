"""House prices, five-fold cross validation, with an sklearn-shaped estimator around a small MLP."""
import copy
import math

import numpy as np
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import KFold, train_test_split
from torch import nn

from toydata import houses


class Standardizer:
    def fit(self, values):
        self.mean, self.std = values.mean(0), values.std(0)
        return self

    def __call__(self, values):
        return (values - self.mean) / self.std

    def invert(self, values):
        return values * self.std + self.mean


class MLPRegressorTorch(BaseEstimator, RegressorMixin):
    def __init__(self, hidden=64, lr=5e-3, max_epochs=60, batch_size=64, patience=12, random_state=0):
        self.hidden = hidden
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.patience = patience
        self.random_state = random_state

    def _make_module(self, n_features):
        return nn.Sequential(
            nn.Linear(n_features, self.hidden), nn.GELU(),
            nn.Linear(self.hidden, self.hidden), nn.GELU(),
            nn.Linear(self.hidden, 1),
        )

    def _tensor(self, array):
        return torch.as_tensor(np.asarray(array), dtype=torch.float32)

    def fit(self, X, y):
        torch.manual_seed(self.random_state)
        X_fit, X_val, y_fit, y_val = train_test_split(X, y, test_size=0.15, random_state=self.random_state)
        X_fit, X_val, y_fit, y_val = map(self._tensor, (X_fit, X_val, y_fit, y_val))
        self.x_scaler_ = Standardizer().fit(X_fit)
        self.y_scaler_ = Standardizer().fit(y_fit)
        inputs, targets = self.x_scaler_(X_fit), self.y_scaler_(y_fit)
        val_inputs, val_targets = self.x_scaler_(X_val), self.y_scaler_(y_val)

        self.module_ = self._make_module(X_fit.shape[1])
        optimizer = torch.optim.Adam(self.module_.parameters(), lr=self.lr, weight_decay=1e-5)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.4, patience=4)
        loss_fn = nn.SmoothL1Loss(beta=0.5)

        best, best_state, waited = math.inf, None, 0
        for self.n_epochs_ in range(1, self.max_epochs + 1):
            self.module_.train()
            for rows in torch.randperm(len(inputs)).split(self.batch_size):
                prediction = self.module_(inputs[rows]).squeeze(1)
                loss = loss_fn(prediction, targets[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

            self.module_.eval()
            with torch.no_grad():
                val_loss = loss_fn(self.module_(val_inputs).squeeze(1), val_targets).item()
            plateau.step(val_loss)
            if val_loss < best - 1e-4:
                best, best_state, waited = val_loss, copy.deepcopy(self.module_.state_dict()), 0
            else:
                waited += 1
                if waited >= self.patience:
                    break
        self.module_.load_state_dict(best_state)
        return self

    @torch.no_grad()
    def predict(self, X):
        self.module_.eval()
        output = self.module_(self.x_scaler_(self._tensor(X))).squeeze(1)
        return self.y_scaler_.invert(output).numpy()


def main():
    features, price = houses(count=1000)
    X, y = features.numpy(), price.numpy()
    scores = []
    for fold, (fit_rows, test_rows) in enumerate(KFold(5, shuffle=True, random_state=3).split(X)):
        model = MLPRegressorTorch(random_state=fold).fit(X[fit_rows], y[fit_rows])
        predicted = model.predict(X[test_rows])
        r2, mae = r2_score(y[test_rows], predicted), mean_absolute_error(y[test_rows], predicted)
        scores.append(r2)
        print(f"fold {fold}: stopped after {model.n_epochs_} epochs, R2 {r2:.3f}, MAE {mae:.1f}k")
    print(f"R2 over folds: {np.mean(scores):.3f} +- {np.std(scores):.3f}")


if __name__ == "__main__":
    main()
