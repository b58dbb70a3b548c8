"""House prices with a compile / fit / evaluate front end over plain PyTorch."""

import copy

import numpy as np
import torch
from torch import nn

from toydata import houses

OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop}
LOSSES = {"mse": nn.functional.mse_loss, "mae": nn.functional.l1_loss, "huber": nn.functional.smooth_l1_loss}
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU, "linear": nn.Identity}


class Dense(nn.Module):
    def __init__(self, n_in, units, activation="linear", l2=0.0):
        super().__init__()
        self.linear = nn.Linear(n_in, units)
        self.activation = ACTIVATIONS[activation]()
        self.l2 = l2
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x):
        return self.activation(self.linear(x))

    def penalty(self):
        return self.l2 * self.linear.weight.pow(2).sum()


class History:
    def __init__(self):
        self.history = {}

    def add(self, logs):
        for k, v in logs.items():
            self.history.setdefault(k, []).append(v)


class EarlyStopping:
    def __init__(self, monitor="val_loss", mode="min", patience=10, restore_best_weights=True):
        self.monitor, self.patience, self.restore = monitor, patience, restore_best_weights
        self.sign = 1.0 if mode == "min" else -1.0
        self.best, self.wait, self.weights = float("inf"), 0, None

    def on_epoch_end(self, model, epoch, logs):
        value = self.sign * logs[self.monitor]
        if value < self.best:
            self.best, self.wait = value, 0
            self.weights = copy.deepcopy(model.net.state_dict())
        else:
            self.wait += 1
            if self.wait >= self.patience:
                model.stop_training = True

    def on_train_end(self, model):
        if self.restore and self.weights is not None:
            model.net.load_state_dict(self.weights)


class ReduceLROnPlateau:
    def __init__(self, monitor="val_loss", factor=0.5, patience=5):
        self.monitor, self.factor, self.patience = monitor, factor, patience

    def on_epoch_end(self, model, epoch, logs):
        if not hasattr(self, "sched"):
            self.sched = torch.optim.lr_scheduler.ReduceLROnPlateau(model.optimizer, factor=self.factor, patience=self.patience)
        self.sched.step(logs[self.monitor])

    def on_train_end(self, model):
        pass


class Model:
    def __init__(self, layers):
        self.net = nn.Sequential(*layers)

    def compile(self, optimizer="adam", loss="mse", learning_rate=1e-3, metrics=()):
        self.optimizer = OPTIMIZERS[optimizer](self.net.parameters(), lr=learning_rate)
        self.loss = LOSSES[loss]
        self.metrics = dict(metrics)

    def penalty(self):
        return sum(layer.penalty() for layer in self.net if hasattr(layer, "penalty"))

    def train_on_batch(self, x, y):
        self.optimizer.zero_grad()
        loss = self.loss(self.net(x), y)
        (loss + self.penalty()).backward()
        self.optimizer.step()
        return loss.item()

    def fit(self, x, y, batch_size=32, epochs=10, validation_data=None, callbacks=(), verbose=1):
        history, self.stop_training = History(), False
        for epoch in range(epochs):
            self.net.train()
            order = torch.randperm(len(x))
            total = 0.0
            for start in range(0, len(x), batch_size):
                index = order[start : start + batch_size]
                total += self.train_on_batch(x[index], y[index]) * len(index)
            logs = {"loss": total / len(x)}
            if validation_data is not None:
                logs.update({f"val_{k}": v for k, v in self.evaluate(*validation_data).items()})
            history.add(logs)
            for callback in callbacks:
                callback.on_epoch_end(self, epoch, logs)
            if verbose and epoch % 5 == 0:
                print(f"Epoch {epoch + 1}/{epochs} - " + " - ".join(f"{k}: {v:.4f}" for k, v in logs.items()))
            if self.stop_training:
                break
        for callback in callbacks:
            callback.on_train_end(self)
        return history

    @torch.no_grad()
    def predict(self, x):
        self.net.eval()
        return self.net(x)

    def evaluate(self, x, y):
        pred = self.predict(x)
        out = {"loss": self.loss(pred, y).item()}
        out.update({name: f(pred, y).item() for name, f in self.metrics.items()})
        return out


class StandardScaler:
    def fit(self, a):
        self.mean, self.std = a.mean(0, keepdims=True), a.std(0, keepdims=True) + 1e-8
        return self

    def transform(self, a):
        return (a - self.mean) / self.std

    def inverse_transform(self, a):
        return a * self.std + self.mean


def load_data():
    """The export is ordered by price, square meters and cents are in their own units."""
    x, y = houses(1600)
    x, y = x.numpy(), y.numpy()[:, None]
    x = x * np.array([30, 2, 1, 1, 5, 400, 10, 0.1]) + np.array([90, 4, 0, 0, 20, 1980, 0, 1])
    order = np.argsort(y[:, 0])
    return x[order], y[order]


def train_test_split(x, y, test_size=0.2, seed=42):
    rng = np.random.RandomState(seed)
    order = rng.permutation(len(x))
    n_test = int(len(x) * test_size)
    train, test = order[:-n_test], order[-n_test:]
    return x[train], x[test], y[train], y[test]


def main():
    torch.manual_seed(0)
    x, y = load_data()
    x_train, x_test, y_train, y_test = train_test_split(x, y)
    x_scaler, y_scaler = StandardScaler().fit(x_train), StandardScaler().fit(y_train)

    def tensor(a):
        return torch.tensor(a, dtype=torch.float32)

    train_x, test_x = tensor(x_scaler.transform(x_train)), tensor(x_scaler.transform(x_test))
    train_y, test_y = tensor(y_scaler.transform(y_train)), tensor(y_scaler.transform(y_test))

    model = Model([
        Dense(8, 64, activation="elu", l2=1e-5),
        Dense(64, 64, activation="elu", l2=1e-5),
        Dense(64, 32, activation="elu", l2=1e-5),
        Dense(32, 1, activation="linear"),
    ])
    model.compile(optimizer="adam", loss="mse", learning_rate=2e-3, metrics={"mae": lambda p, t: (p - t).abs().mean()})
    callbacks = [ReduceLROnPlateau("val_loss", patience=6), EarlyStopping("val_loss", mode="min", patience=20)]
    model.fit(train_x, train_y, batch_size=32, epochs=100, validation_data=(test_x, test_y), callbacks=callbacks)

    prediction = y_scaler.inverse_transform(model.predict(test_x).numpy())
    mae = np.abs(prediction - y_test).mean()
    r2 = 1 - ((prediction - y_test) ** 2).sum() / ((y_test - y_test.mean()) ** 2).sum()
    print(f"test MAE {mae:.2f} thousand, R2 {r2:.4f}")


if __name__ == "__main__":
    main()
