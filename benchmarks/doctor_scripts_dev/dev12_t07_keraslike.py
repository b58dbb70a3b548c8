"""A small Keras-like layer over PyTorch (compile, fit, evaluate, callbacks), and a model of colored shapes."""

import math
import os
import tempfile

import numpy as np
import torch
from torch import nn

from toydata import Shapes

LOSSES = {"sparse_categorical_crossentropy": nn.CrossEntropyLoss, "mse": nn.MSELoss}
OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop}


def accuracy(y_true, logits):
    return float((logits.argmax(1) == y_true).float().mean())


def balanced_accuracy(y_true, logits):
    hit = (logits.argmax(1) == y_true).float()
    return float(torch.stack([hit[y_true == c].mean() for c in y_true.unique()]).mean())


class Rescaling(nn.Module):
    def __init__(self, scale, offset=0.0):
        super().__init__()
        self.scale, self.offset = scale, offset

    def forward(self, x):
        return x * self.scale + self.offset


class Callback:
    def set_model(self, model):
        self.model = model

    def on_train_begin(self):
        pass

    def on_epoch_end(self, epoch, logs):
        pass


class Monitor(Callback):
    """What all callbacks have in common that look at one figure."""

    def __init__(self, monitor="val_loss", mode="min", min_delta=0.0):
        self.monitor, self.mode, self.min_delta = monitor, mode, min_delta
        self.best, self.wait = (math.inf if mode == "min" else -math.inf), 0

    def improved(self, logs):
        value = logs[self.monitor]
        better = value < self.best - self.min_delta if self.mode == "min" else value > self.best + self.min_delta
        if better:
            self.best, self.wait = value, 0
        else:
            self.wait += 1
        return better


class EarlyStopping(Monitor):
    def __init__(self, patience=5, **options):
        super().__init__(**options)
        self.patience = patience

    def on_epoch_end(self, epoch, logs):
        if not self.improved(logs) and self.wait >= self.patience:
            print(f"Epoch {epoch + 1}: early stopping")
            self.model.stop_training = True


class ReduceLROnPlateau(Monitor):
    def __init__(self, factor=0.3, patience=2, min_lr=0.0, **options):
        super().__init__(**options)
        self.factor, self.patience, self.min_lr = factor, patience, min_lr

    def on_epoch_end(self, epoch, logs):
        if not self.improved(logs) and self.wait >= self.patience:
            for group in self.model.optimizer.param_groups:
                group["lr"] = max(group["lr"] * self.factor, self.min_lr)
            self.wait = 0
            print(f"Epoch {epoch + 1}: learning rate is now {group['lr']:.2e}")


class ModelCheckpoint(Monitor):
    def __init__(self, filepath, **options):
        super().__init__(**options)
        self.filepath = filepath

    def on_epoch_end(self, epoch, logs):
        if self.improved(logs):
            self.model.save_weights(self.filepath)


class Model:
    def __init__(self, network):
        self.network, self.stop_training = network, False

    def compile(self, optimizer="adam", learning_rate=1e-3, loss="mse", metrics=()):
        self.optimizer = OPTIMIZERS[optimizer](self.network.parameters(), lr=learning_rate)
        self.loss_class, self.metrics = LOSSES[loss], list(metrics)

    def save_weights(self, path):
        torch.save(self.network.state_dict(), path)

    def load_weights(self, path):
        self.network.load_state_dict(torch.load(path))

    def fit(self, x, y, validation_data, epochs=1, batch_size=32, class_weight=None, callbacks=()):
        x, y = torch.from_numpy(x), torch.from_numpy(y)
        weight = None
        if class_weight is not None:
            weight = torch.tensor([class_weight[c] for c in sorted(class_weight)], dtype=torch.float32)
        loss_fn = self.loss_class(weight=weight)
        for callback in callbacks:
            callback.set_model(self)
            callback.on_train_begin()
        history = []
        for epoch in range(epochs):
            self.network.train()
            total = 0.0
            order = torch.randperm(len(x))
            for index in order.split(batch_size):
                loss = loss_fn(self.network(x[index]), y[index])
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                total += loss.item() * len(index)
            logs = {"loss": total / len(x)}
            logs.update({"val_" + name: value for name, value in self.evaluate(*validation_data).items()})
            print(f"Epoch {epoch + 1}/{epochs} - " + " - ".join(f"{k}: {v:.4f}" for k, v in logs.items()))
            history.append(logs)
            for callback in callbacks:
                callback.on_epoch_end(epoch, logs)
            if self.stop_training:
                break
        return history

    @torch.no_grad()
    def predict(self, x, batch_size=128):
        self.network.eval()
        return torch.cat([self.network(part) for part in torch.from_numpy(x).split(batch_size)])

    def evaluate(self, x, y):
        outputs, y = self.predict(x), torch.from_numpy(y)
        figures = {"loss": float(self.loss_class()(outputs, y))}
        figures.update({metric.__name__: metric(y, outputs) for metric in self.metrics})
        return figures


def load_data(seed=0):
    """Images as bytes and labels; some names are much rarer than others."""
    shapes = Shapes(count=4000)
    rng = np.random.default_rng(seed)
    keep = rng.random(len(shapes)) < np.array([1.0, 0.5, 0.3, 0.2, 0.12, 0.08])[np.array(shapes.targets)]
    x = (torch.stack(shapes.images).numpy() * 255).astype(np.float32)[keep]
    return x, np.array(shapes.targets)[keep]


def train_test_split(x, y, test_size=0.25, seed=1):
    order = np.random.default_rng(seed).permutation(len(x))
    cut = int(len(x) * (1 - test_size))
    return x[order[:cut]], x[order[cut:]], y[order[:cut]], y[order[cut:]]


def augment(x, y, seed=2):
    """Three times the data: as they are, mirrored, and with a little noise."""
    noisy = x + np.random.default_rng(seed).normal(0, 4, x.shape).astype(np.float32)
    return np.concatenate([x, x[..., ::-1], noisy]), np.concatenate([y, y, y])


def build_model(classes=6):
    return nn.Sequential(
        Rescaling(1 / 127.5, offset=-1),
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    x, y = load_data()
    x_train, x_val, y_train, y_val = train_test_split(x, y)
    x_train, y_train = augment(x_train, y_train)
    counts = np.bincount(y_train, minlength=6)
    class_weight = {c: len(y_train) / (6 * counts[c]) for c in range(6)}

    model = Model(build_model())
    model.compile("adam", 2e-3, "sparse_categorical_crossentropy", metrics=[accuracy, balanced_accuracy])
    best = os.path.join(tempfile.mkdtemp(), "best.weights.pt")
    callbacks = [
        EarlyStopping(monitor="val_loss", patience=6),
        ReduceLROnPlateau(monitor="val_loss", factor=0.3, patience=3),
        ModelCheckpoint(best, monitor="val_balanced_accuracy", mode="max"),
    ]
    model.fit(x_train, y_train, (x_val, y_val), epochs=16, batch_size=32, class_weight=class_weight, callbacks=callbacks)
    model.load_weights(best)
    print("best weights: " + " - ".join(f"{k}: {v:.4f}" for k, v in model.evaluate(x_val, y_val).items()))
