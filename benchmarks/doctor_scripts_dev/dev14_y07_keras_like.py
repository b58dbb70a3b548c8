"""A little Keras on top of torch: Sequential-like Model with compile / fit / evaluate."""
import math

import numpy as np
import torch
from torch import nn

from toydata import draw_digits

ACTIVATIONS = {None: nn.Identity, "relu": nn.ReLU, "tanh": nn.Tanh, "softmax": lambda: nn.Softmax(dim=-1)}


class Rescaling(nn.Module):
    def __init__(self, scale, offset=0.0):
        super().__init__()
        self.scale, self.offset = scale, offset

    def forward(self, x):
        return x * self.scale + self.offset


def Dense(n_in, n_out, activation=None):
    return nn.Sequential(nn.Linear(n_in, n_out), ACTIVATIONS[activation]())


class SparseCategoricalCrossentropy:
    def __init__(self, from_logits=False):
        self.from_logits = from_logits

    def __call__(self, y_true, y_pred):
        if self.from_logits:
            return nn.functional.cross_entropy(y_pred, y_true)
        return nn.functional.nll_loss(torch.log(y_pred.clamp(1e-7, 1.0)), y_true)


class Callback:
    model = None

    def on_epoch_end(self, epoch, logs):
        pass


class ReduceLROnPlateau(Callback):
    def __init__(self, monitor="val_loss", factor=0.3, patience=3, mode="min", min_lr=1e-5):
        self.monitor, self.factor, self.patience, self.mode, self.min_lr = monitor, factor, patience, mode, min_lr
        self.best, self.wait = math.inf if mode == "min" else -math.inf, 0

    def on_epoch_end(self, epoch, logs):
        value = logs[self.monitor]
        better = value < self.best if self.mode == "min" else value > self.best
        if better:
            self.best, self.wait = value, 0
            return
        self.wait += 1
        if self.wait >= self.patience:
            for group in self.model.optimizer.param_groups:
                group["lr"] = max(group["lr"] * self.factor, self.min_lr)
            self.wait = 0


class Model:
    def __init__(self, layers):
        self.net = nn.Sequential(*layers)

    def compile(self, optimizer, loss, lr):
        self.optimizer = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimizer](self.net.parameters(), lr=lr)
        self.loss = loss

    def fit(self, x, y, batch_size=32, epochs=1, validation_split=0.0, shuffle=True, callbacks=(), verbose=1):
        history = []
        n = int(len(x) * (1 - validation_split))
        x, y, x_val, y_val = x[:n], y[:n], x[n:], y[n:]
        for callback in callbacks:
            callback.model = self
        for epoch in range(epochs):
            order = np.random.permutation(n) if shuffle else np.arange(n)
            self.net.train()
            running, hits = 0.0, 0
            for start in range(0, n, batch_size):
                picked = order[start:start + batch_size]
                xb, yb = torch.from_numpy(x[picked]), torch.from_numpy(y[picked])
                self.optimizer.zero_grad()
                y_pred = self.net(xb)
                loss = self.loss(yb, y_pred)
                loss.backward()
                self.optimizer.step()
                running += loss.item() * len(picked)
                hits += int((y_pred.argmax(-1) == yb).sum())
            logs = {"loss": running / n, "accuracy": hits / n}
            if len(x_val):
                logs["val_loss"], logs["val_accuracy"] = self.evaluate(x_val, y_val)
            for callback in callbacks:
                callback.on_epoch_end(epoch, logs)
            if verbose:
                print(f"Epoch {epoch + 1}/{epochs} - " + " - ".join(f"{k}: {v:.4f}" for k, v in logs.items()))
            history.append(logs)
        return history

    @torch.no_grad()
    def predict(self, x, batch_size=128):
        self.net.eval()
        return np.concatenate([self.net(torch.from_numpy(x[i:i + batch_size])).numpy() for i in range(0, len(x), batch_size)])

    def evaluate(self, x, y):
        y_pred = self.predict(x)
        loss = self.loss(torch.from_numpy(y), torch.from_numpy(y_pred)).item()
        return loss, float((y_pred.argmax(-1) == y).mean())


def load_data():
    """Samples come class by class, as from one folder per class."""
    images, labels = draw_digits(1500, seed=3)
    x, y = images.numpy(), labels.numpy()
    by_class = np.concatenate([np.flatnonzero(y == k) for k in range(10)])
    x_train, y_train = x[by_class], y[by_class]
    images, labels = draw_digits(400, seed=4)
    return (x_train, y_train), (images.numpy(), labels.numpy())


def main():
    np.random.seed(0)
    torch.manual_seed(0)
    (x_train, y_train), (x_test, y_test) = load_data()
    x_train = x_train.reshape(-1, 256).astype("float32")
    x_test = x_test.reshape(-1, 256).astype("float32")
    perm = np.random.permutation(len(x_train))
    x_train, y_train = x_train[perm], y_train[perm]

    model = Model([
        Rescaling(1.0 / 255),
        Dense(256, 128, activation="relu"),
        nn.Dropout(0.2),
        Dense(128, 64, activation="relu"),
        Dense(64, 10, activation="softmax"),
    ])
    model.compile(optimizer="adam", loss=SparseCategoricalCrossentropy(), lr=1e-3)
    model.fit(x_train, y_train, batch_size=32, epochs=20, validation_split=0.2,
              callbacks=[ReduceLROnPlateau(monitor="val_accuracy", mode="max", patience=3)])
    loss, accuracy = model.evaluate(x_test, y_test)
    print(f"Test loss: {loss:.4f}  Test accuracy: {accuracy:.4f}")


if __name__ == "__main__":
    main()
