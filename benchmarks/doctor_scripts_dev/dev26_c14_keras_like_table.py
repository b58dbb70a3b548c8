"""House prices with a Keras-like model: compile, fit, evaluate."""

import numpy as np
import torch
from torch import nn

from toydata import houses


class History:
    def __init__(self):
        self.history = {}

    def append(self, logs):
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)


class EarlyStopping:
    def __init__(self, monitor="val_loss", patience=10, restore_best_weights=True):
        self.monitor, self.patience, self.restore = monitor, patience, restore_best_weights
        self.best, self.wait, self.weights = np.inf, 0, None

    def on_epoch_end(self, model, logs):
        if logs[self.monitor] < self.best:
            self.best, self.wait = logs[self.monitor], 0
            self.weights = {k: v.detach().clone() for k, v in model.state_dict().items()}
        else:
            self.wait += 1
        return self.wait >= self.patience

    def on_train_end(self, model):
        if self.restore and self.weights is not None:
            model.load_state_dict(self.weights)


class Model(nn.Module):
    def compile_with(self, optimizer, loss, metrics):
        self.optimizer, self.loss, self.metrics = optimizer, loss, metrics

    def fit(self, x, y, batch_size=64, epochs=10, validation_data=None, callbacks=()):
        history = History()
        for epoch in range(epochs):
            self.train()
            order = torch.randperm(len(x))
            total = 0.0
            for start in range(0, len(x), batch_size):
                index = order[start : start + batch_size]
                prediction = self(x[index])
                loss = self.loss(prediction, y[index])
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                total += loss.item() * len(index)
            logs = {"loss": total / len(x)}
            logs.update({f"val_{name}": value for name, value in self.evaluate(*validation_data).items()})
            history.append(logs)
            print(f"Epoch {epoch + 1}/{epochs} - " + " - ".join(f"{name}: {value:.4f}" for name, value in logs.items()))
            if any([callback.on_epoch_end(self, logs) for callback in callbacks]):
                print(f"stopped early after epoch {epoch + 1}")
                break
        for callback in callbacks:
            callback.on_train_end(self)
        return history

    def evaluate(self, x, y):
        prediction = self.predict(x)
        results = {"loss": self.loss(prediction, y).item()}
        results.update({name: metric(prediction, y) for name, metric in self.metrics.items()})
        return results

    @torch.no_grad()
    def predict(self, x):
        self.eval()
        return self(x)


class Dense(nn.Sequential):
    def __init__(self, inputs, outputs, dropout=0.0):
        super().__init__(nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.GELU(), nn.Dropout(dropout))


class PriceModel(Model):
    def __init__(self, features, hidden=160):
        super().__init__()
        self.layers = nn.Sequential(Dense(features, hidden), Dense(hidden, hidden, 0.05), nn.Linear(hidden, 1))

    def forward(self, x):
        return self.layers(x).squeeze(-1)


class StandardScaler:
    def fit(self, values):
        self.mean, self.std = values.mean(dim=0), values.std(dim=0)
        return self

    def transform(self, values):
        return (values - self.mean) / self.std

    def inverse_transform(self, values):
        return values * self.std + self.mean


torch.manual_seed(0)
x, y = houses(count=9000, seed=4)
permutation = torch.randperm(len(x))
train, valid, test = permutation[:7000], permutation[7000:8000], permutation[8000:]

x_scaler, y_scaler = StandardScaler().fit(x[train]), StandardScaler().fit(y[train])
xs, ys = x_scaler.transform(x), y_scaler.transform(y)


def mae_in_thousands(prediction, target):
    return (prediction - target).abs().mean().item() * y_scaler.std.item()


def r2(prediction, target):
    return 1 - ((prediction - target) ** 2).sum().item() / ((target - target.mean()) ** 2).sum().item()


model = PriceModel(xs.shape[1])
model.compile_with(
    optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
    loss=nn.HuberLoss(delta=1.0),
    metrics={"mae": mae_in_thousands, "r2": r2},
)
model.fit(
    xs[train],
    ys[train],
    batch_size=64,
    epochs=60,
    validation_data=(xs[valid], ys[valid]),
    callbacks=[EarlyStopping(monitor="val_loss", patience=15)],
)
print("test:", {name: round(value, 4) for name, value in model.evaluate(xs[test], ys[test]).items()})
prices = y_scaler.inverse_transform(model.predict(xs[test][:5]))
print("predicted", [round(v) for v in prices.tolist()], "true", [round(v) for v in y[test][:5].tolist()])
