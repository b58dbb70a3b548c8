"""A small Keras-like Model (compile / fit / evaluate / predict, callbacks) on top of PyTorch,
used to grade fruit from 24 readings of a sorting line (five grades)."""
import argparse
import copy
import math

import numpy as np
import torch
from sklearn.datasets import make_classification
from torch import nn


class Callback:
    model = None

    def on_epoch_end(self, epoch, logs):
        pass


class EarlyStopping(Callback):
    def __init__(self, monitor='val_loss', patience=5, mode='min', restore_best_weights=True):
        self.monitor, self.patience, self.restore = monitor, patience, restore_best_weights
        self.sign = 1 if mode == 'min' else -1
        self.best, self.wait, self.weights = math.inf, 0, None

    def on_epoch_end(self, epoch, logs):
        value = self.sign * logs[self.monitor]
        if value < self.best:
            self.best, self.wait = value, 0
            self.weights = copy.deepcopy(self.model.net.state_dict())
            return
        self.wait += 1
        if self.wait >= self.patience:
            self.model.stop_training = True

    def on_train_end(self):
        if self.restore and self.weights is not None:
            self.model.net.load_state_dict(self.weights)


class ReduceLROnPlateau(Callback):
    def __init__(self, monitor='val_loss', factor=0.5, patience=2):
        self.monitor, self.factor, self.patience, self.best, self.wait = monitor, factor, patience, math.inf, 0

    def on_epoch_end(self, epoch, logs):
        if logs[self.monitor] < self.best - 1e-4:
            self.best, self.wait = logs[self.monitor], 0
        else:
            self.wait += 1
        if self.wait > self.patience:
            self.wait = 0
            for g in self.model.optimizer.param_groups:
                g['lr'] *= self.factor


class Model:
    def __init__(self, net):
        self.net, self.stop_training = net, False

    def compile(self, optimizer, loss, metrics=None):
        self.optimizer, self.loss, self.metrics = optimizer, loss, metrics or {}

    @staticmethod
    def _batches(x, y, batch_size, shuffle):
        order = torch.randperm(len(x)) if shuffle else torch.arange(len(x))
        for i in range(0, len(x), batch_size):
            idx = order[i:i + batch_size]
            yield x[idx], y[idx]

    def train_on_batch(self, x, y):
        self.net.train()
        self.optimizer.zero_grad()
        out = self.net(x)
        loss = self.loss(out, y)
        loss.backward()
        self.optimizer.step()
        return loss.item(), out.detach()

    @torch.no_grad()
    def evaluate(self, x, y, batch_size=128):
        self.net.eval()
        sums = {'loss': 0.0, **{k: 0.0 for k in self.metrics}}
        for xb, yb in self._batches(x, y, batch_size, shuffle=False):
            out = self.net(xb)
            sums['loss'] += self.loss(out, yb).item() * len(xb)
            for name, fn in self.metrics.items():
                sums[name] += fn(out, yb) * len(xb)
        return {k: v / len(x) for k, v in sums.items()}

    @torch.no_grad()
    def predict(self, x):
        self.net.eval()
        return self.net(x).softmax(dim=1)

    def fit(self, x, y, batch_size=32, epochs=10, validation_split=0.0, callbacks=(), verbose=1):
        n_val = int(len(x) * validation_split)  # as in Keras, the last samples
        x_val, y_val = x[len(x) - n_val:], y[len(x) - n_val:]
        x, y = x[:len(x) - n_val], y[:len(y) - n_val]
        history = []
        for cb in callbacks:
            cb.model = self
        for epoch in range(epochs):
            logs, seen = {'loss': 0.0, **{k: 0.0 for k in self.metrics}}, 0
            for xb, yb in self._batches(x, y, batch_size, shuffle=True):
                loss, out = self.train_on_batch(xb, yb)
                seen += len(xb)
                logs['loss'] += loss * len(xb)
                for name, fn in self.metrics.items():
                    logs[name] += fn(out, yb) * len(xb)
            logs = {k: v / seen for k, v in logs.items()}
            logs.update({'val_' + k: v for k, v in self.evaluate(x_val, y_val).items()})
            history.append(logs)
            if verbose:
                print(f'Epoch {epoch + 1}/{epochs} - ' + ' - '.join(f'{k}: {v:.4f}' for k, v in logs.items()))
            for cb in callbacks:
                cb.on_epoch_end(epoch, logs)
            if self.stop_training:
                break
        for cb in callbacks:
            getattr(cb, 'on_train_end', lambda: None)()
        return history


def accuracy(out, y):
    return (out.argmax(dim=1) == y).float().mean().item()


def load_data(seed):
    """2400 fruits; every reading comes in its own unit, so the columns differ in scale and offset."""
    x, y = make_classification(2400, 24, n_informative=10, n_redundant=4, n_classes=5, n_clusters_per_class=2,
                               class_sep=1.4, flip_y=0.01, random_state=seed)
    rng = np.random.default_rng(seed)
    x = x * 10 ** rng.uniform(-1, 2, 24) + rng.uniform(-50, 50, 24)
    order = rng.permutation(len(x))
    x, y = x[order].astype('float32'), y[order]
    x_train, x_test, y_train, y_test = x[:2000], x[2000:], y[:2000], y[2000:]
    mean, std = x_train.mean(axis=0), x_train.std(axis=0)
    x_train = (x_train - mean) / std
    x_test = (x_test - mean) / std
    return [torch.from_numpy(a) for a in (x_train, y_train, x_test, y_test)]


def build_net(n_in, n_out, hidden=64, dropout=0.2):
    net = nn.Sequential(
        nn.Linear(n_in, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(hidden, n_out))
    for m in net:
        if isinstance(m, nn.Linear):
            nn.init.xavier_uniform_(m.weight)  # glorot_uniform, the Keras default
            nn.init.zeros_(m.bias)
    return net


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--epochs', type=int, default=20)
    parser.add_argument('--batch-size', type=int, default=32)
    parser.add_argument('--lr', type=float, default=1e-3)
    args = parser.parse_args()
    torch.manual_seed(0)

    x_train, y_train, x_test, y_test = load_data(seed=4)
    model = Model(build_net(x_train.shape[1], 5))
    model.compile(optimizer=torch.optim.Adam(model.net.parameters(), lr=args.lr),
                  loss=nn.CrossEntropyLoss(), metrics={'accuracy': accuracy})
    model.fit(x_train, y_train, batch_size=args.batch_size, epochs=args.epochs, validation_split=0.2,
              callbacks=[EarlyStopping('val_loss', patience=5), ReduceLROnPlateau('val_loss')])
    print('test', model.evaluate(x_test, y_test))
    print('mean confidence', model.predict(x_test).max(dim=1).values.mean().item())


if __name__ == '__main__':
    main()
