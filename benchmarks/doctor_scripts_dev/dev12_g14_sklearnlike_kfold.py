"""A network as an estimator with fit, predict and score; judged by folds, then fitted on all and tested once."""

import copy
import inspect

import numpy as np
import torch
from torch import nn

from toydata import draw_digits


class NeuralNetClassifier:
    def __init__(
        self, module, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, lr=1e-3, max_epochs=10,
        batch_size=64, random_state=0, verbose=1, **module_params,
    ):
        self.module, self.criterion, self.optimizer, self.lr = module, criterion, optimizer, lr
        self.max_epochs, self.batch_size = max_epochs, batch_size
        self.random_state, self.verbose, self.module_params = random_state, verbose, module_params

    def get_params(self):
        names = [p.name for p in inspect.signature(type(self).__init__).parameters.values() if p.kind == p.POSITIONAL_OR_KEYWORD]
        return {**{name: getattr(self, name) for name in names if name != "self"}, **self.module_params}

    def initialize(self):
        torch.manual_seed(self.random_state)
        self.module_ = self.module(**self.module_params)
        self.criterion_ = self.criterion()
        self.optimizer_ = self.optimizer(self.module_.parameters(), lr=self.lr)
        self.history_ = []
        return self

    def train_step(self, Xi, yi):
        self.module_.train()
        self.optimizer_.zero_grad()
        loss = self.criterion_(self.module_(Xi), yi)
        loss.backward()
        self.optimizer_.step()
        return loss.item()

    def fit(self, X, y):
        self.initialize()
        mean, std = X.mean(dtype=np.float64), X.std(dtype=np.float64)
        self.scale_ = (float(mean), float(std))
        X, y = self._tensor(X), torch.from_numpy(y)
        for epoch in range(self.max_epochs):
            total = 0.0
            for index in torch.randperm(len(X)).split(self.batch_size):
                total += self.train_step(X[index], y[index]) * len(index)
            self.history_.append({"epoch": epoch + 1, "train_loss": total / len(X)})
            if self.verbose and (epoch + 1) % 3 == 0:
                print("  epoch {epoch:3d}  train_loss {train_loss:.4f}".format(**self.history_[-1]))
        return self

    def _tensor(self, X):
        mean, std = self.scale_
        return (torch.from_numpy(X).float() - mean) / std

    def predict_proba(self, X):
        self.module_.eval()
        with torch.no_grad():
            parts = [self.module_(part).softmax(-1) for part in self._tensor(X).split(256)]
        return torch.cat(parts).numpy()

    def predict(self, X):
        return self.predict_proba(X).argmax(axis=1)

    def score(self, X, y):
        return float((self.predict(X) == y).mean())


def clone(estimator):
    return type(estimator)(**copy.deepcopy(estimator.get_params()))


def stratified_folds(y, n_splits, seed):
    rng = np.random.default_rng(seed)
    fold = np.empty(len(y), dtype=int)
    for label in np.unique(y):
        members = rng.permutation(np.flatnonzero(y == label))
        fold[members] = np.arange(len(members)) % n_splits
    for k in range(n_splits):
        yield np.flatnonzero(fold != k), np.flatnonzero(fold == k)


def cross_val_score(estimator, X, y, n_splits=4, seed=0):
    scores = []
    for number, (train, test) in enumerate(stratified_folds(y, n_splits, seed)):
        fitted = clone(estimator).fit(X[train], y[train])
        scores.append(fitted.score(X[test], y[test]))
        print(f"fold {number}: accuracy {scores[-1]:.4f}")
    return np.array(scores)


class LeNet(nn.Module):
    def __init__(self, channels=16, hidden=64, dropout=0.25):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, channels, 5, padding=2), nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(channels, 2 * channels, 3), nn.BatchNorm2d(2 * channels), nn.ReLU(), nn.MaxPool2d(2),
        )
        self.dense = nn.Sequential(
            nn.Flatten(), nn.Linear(2 * channels * 9, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 10)
        )

    def forward(self, X):
        return self.dense(self.features(X))


X, y = (part.numpy() for part in draw_digits(1500, seed=0, noise=0.12))
X_test, y_test = (part.numpy() for part in draw_digits(400, seed=1, noise=0.12))

net = NeuralNetClassifier(LeNet, lr=3e-3, max_epochs=6, batch_size=50, hidden=48)
scores = cross_val_score(net, X, y)
print(f"cross validation: {scores.mean():.4f} +- {scores.std():.4f}")

net.fit(X, y)
print(f"test: {net.score(X_test, y_test):.4f}")
