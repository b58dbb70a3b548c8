"""A small Keras look-alike (compile / fit / evaluate) and a digit model made with it."""

import numpy as np
import torch
from torch import nn

from toydata import draw_digits

OPTIMIZERS = {"adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop, "sgd": torch.optim.SGD}
LOSSES = {"nll": nn.NLLLoss, "sparse_categorical_crossentropy": nn.CrossEntropyLoss, "mse": nn.MSELoss}


class Callback:
    def on_train_begin(self, model):
        pass

    def on_epoch_end(self, model, epoch, logs):
        pass


class LearningRateScheduler(Callback):
    def __init__(self, fn):
        self.fn = fn

    def on_epoch_end(self, model, epoch, logs):
        for group in model.optimizer.param_groups:
            group["lr"] = self.fn(epoch + 1, group["lr"])


class History(Callback):
    def on_train_begin(self, model):
        self.history = {}

    def on_epoch_end(self, model, epoch, logs):
        for key, value in logs.items():
            self.history.setdefault(key, []).append(value)


class Model:
    def __init__(self, layers):
        self.net = nn.Sequential(*layers)
        self.stop_training = False

    def summary(self):
        for i, layer in enumerate(self.net):
            print(f"{i:3d}  {type(layer).__name__:<14}{sum(p.numel() for p in layer.parameters()):>8}")

    def compile(self, optimizer="adam", loss="nll", learning_rate=1e-3):
        self.optimizer = OPTIMIZERS[optimizer](self.net.parameters(), lr=learning_rate)
        self.loss = LOSSES[loss]()

    def _batches(self, x, y, batch_size, shuffle):
        index = np.random.permutation(len(x)) if shuffle else np.arange(len(x))
        for start in range(0, len(x), batch_size):
            rows = index[start : start + batch_size]
            yield torch.from_numpy(x[rows]), torch.from_numpy(y[rows])

    def train_on_batch(self, xb, yb):
        self.net.train()
        self.optimizer.zero_grad()
        loss = self.loss(self.net(xb), yb)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def evaluate(self, x, y, batch_size=64):
        self.net.eval()
        total, hits, seen = 0.0, 0, 0
        with torch.no_grad():
            for xb, yb in self._batches(x, y, batch_size, shuffle=False):
                out = self.net(xb)
                total += self.loss(out, yb).item() * len(xb)
                hits += int((out.argmax(dim=1) == yb).sum())
                seen += len(xb)
        return {"loss": total / seen, "accuracy": hits / seen}

    def fit(self, x, y, batch_size=32, epochs=1, validation_split=0.0, callbacks=(), verbose=1):
        n_val = int(len(x) * validation_split)
        x_val, y_val = x[len(x) - n_val :], y[len(y) - n_val :]
        x, y = x[: len(x) - n_val], y[: len(y) - n_val]
        history = History()
        callbacks = [history, *callbacks]
        for cb in callbacks:
            cb.on_train_begin(self)
        for epoch in range(epochs):
            losses = [self.train_on_batch(xb, yb) for xb, yb in self._batches(x, y, batch_size, shuffle=True)]
            logs = {"loss": float(np.mean(losses))}
            if n_val:
                scores = self.evaluate(x_val, y_val)
                logs.update(val_loss=scores["loss"], val_accuracy=scores["accuracy"])
            for cb in callbacks:
                cb.on_epoch_end(self, epoch, logs)
            if verbose:
                print(f"Epoch {epoch + 1}/{epochs} - " + " - ".join(f"{k}: {v:.4f}" for k, v in logs.items()))
            if self.stop_training:
                break
        return history


def load_data(count, seed):
    """Reads the digits the way they lie in folders: all zeros, all ones, ..."""
    images, labels = draw_digits(count, seed=seed)
    xs, ys = [], []
    for digit in range(10):
        chosen = (labels == digit).numpy()
        xs.append(images.numpy()[chosen])
        ys.append(np.full(chosen.sum(), digit, dtype=np.int64))
    x = np.concatenate(xs).astype(np.float32) / 255.0
    return x, np.concatenate(ys)


def build_model(num_classes=10, keep_prob=0.8):
    rate = 1 - keep_prob
    return Model([
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3), nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(rate),
        nn.Linear(32 * 25, 48), nn.ReLU(),
        nn.Dropout(rate),
        nn.Linear(48, num_classes),
        nn.LogSoftmax(dim=1),
    ])


if __name__ == "__main__":
    np.random.seed(3)
    torch.manual_seed(3)

    x_train, y_train = load_data(1800, seed=60)
    order = np.random.permutation(len(x_train))
    x_train, y_train = x_train[order], y_train[order]
    x_test, y_test = load_data(400, seed=61)

    model = build_model()
    model.summary()
    model.compile(optimizer="adam", loss="nll", learning_rate=2e-3)
    history = model.fit(
        x_train, y_train, batch_size=48, epochs=10, validation_split=0.2,
        callbacks=[LearningRateScheduler(lambda epoch, lr: lr * 0.5 if epoch in (6, 8) else lr)],
    )
    best = max(history.history["val_accuracy"])
    scores = model.evaluate(x_test, y_test)
    print(f"best val_accuracy {best:.4f} - test loss {scores['loss']:.4f} - test accuracy {scores['accuracy']:.4f}")
