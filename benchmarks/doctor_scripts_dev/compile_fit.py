"""In the idiom of Keras on torch: compile, fit with a validation split, callbacks, history; a regression of a table."""

import numpy as np
import torch
from torch import nn


def make_fuel(rows=900, seed=5):
    rng = np.random.default_rng(seed)
    weight, power, displacement = rng.normal(1500, 300, rows), rng.gamma(9, 12, rows), rng.normal(2.2, 0.6, rows)
    year, cylinders = rng.integers(70, 83, rows), rng.integers(3, 9, rows)
    mpg = 48 - 0.009 * weight - 0.05 * power - 1.5 * displacement + 0.5 * (year - 76) + 0.02 * (cylinders - 5) ** 2 * power / 10
    return np.stack([weight, power, displacement, year, cylinders], 1).astype("float32"), (
        mpg + rng.normal(0, 0.7, rows)
    ).astype("float32")


class ReduceLROnPlateau:
    def __init__(self, factor=0.5, patience=3):
        self.factor, self.patience, self.best, self.wait = factor, patience, float("inf"), 0

    def on_epoch_end(self, model, logs):
        if logs["val_loss"] < self.best:
            self.best, self.wait = logs["val_loss"], 0
        else:
            self.wait += 1
            if self.wait >= self.patience:
                model.optimizer.param_groups[0]["lr"] *= self.factor
                self.wait = 0


class Model(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)

    def compile(self, optimizer, loss, metrics=()):
        self.optimizer, self.loss, self.metrics = optimizer, loss, metrics

    def train_on_batch(self, x, y):
        self.train()
        y_pred = self(x)
        loss = self.loss(y_pred, y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def evaluate(self, x, y):
        self.eval()
        y_pred = self(x)
        return {"val_loss": self.loss(y_pred, y).item(), **{f"val_{m.__name__}": float(m(y_pred, y)) for m in self.metrics}}

    def fit(self, x, y, batch_size=32, epochs=1, validation_split=0.0, callbacks=()):
        n_val = int(len(x) * validation_split)
        x, x_val, y, y_val = x[:-n_val], x[-n_val:], y[:-n_val], y[-n_val:]
        history = []
        for epoch in range(epochs):
            order = torch.randperm(len(x))
            losses = []
            for start in range(0, len(order), batch_size):
                take = order[start : start + batch_size]
                losses.append(self.train_on_batch(x[take], y[take]))
            logs = {"loss": float(np.mean(losses)), **self.evaluate(x_val, y_val)}
            for callback in callbacks:
                callback.on_epoch_end(self, logs)
            history.append(logs)
            print(f"Epoch {epoch + 1}/{epochs}", logs)
        return history


def mae(y_pred, y_true):
    return (y_pred - y_true).abs().mean()


torch.manual_seed(0)
features, target = make_fuel()
features = (features - features.mean(0)) / features.std(0)
x, y = torch.from_numpy(features), torch.from_numpy(target).unsqueeze(1)
y = (y - y.mean()) / y.std()
model = Model(nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
model.compile(optimizer=torch.optim.Adam(model.parameters(), lr=1e-3), loss=nn.MSELoss(), metrics=[mae])
history = model.fit(x, y, batch_size=32, epochs=12, validation_split=0.2, callbacks=[ReduceLROnPlateau()])
