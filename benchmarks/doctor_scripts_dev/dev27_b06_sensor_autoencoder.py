"""Anomalies in the sensors of a pump: an autoencoder of windows, with a small learner and callbacks."""

import copy
import math

import numpy as np
import torch
from sklearn.metrics import f1_score, roc_auc_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

WINDOW = 64


# ---------------------------------------------------------------- data
def pump(length, seed):
    rng = np.random.default_rng(seed)
    time = np.arange(length)
    drift = np.interp(time, np.linspace(0, length, length // 200), rng.uniform(-1, 1, length // 200))
    phase = 2 * np.pi * np.cumsum((1 + 0.1 * drift) / 40)
    strength = 1 + 0.2 * np.sin(2 * np.pi * time / 1700 + rng.uniform(0, 6))
    temperature = 60 + 5 * strength * np.sin(phase)
    pressure = 1.2 + 0.1 * strength * np.sin(phase - 1.0)
    current = 10 + 3 * strength * np.tanh(2 * np.sin(phase + 0.5))
    series = np.stack([temperature, pressure, current])
    noise = rng.standard_normal(series.shape) * np.array([[0.4], [0.008], [0.24]])
    return torch.tensor(series + noise, dtype=torch.float32)


def windows(series, stride):
    return series.unfold(1, WINDOW, stride).permute(1, 0, 2).contiguous()


def spoil(clean, seed):
    """Plants a fault in every fourth window or so: a spike, a dead sensor, a reversed or a doubled rhythm."""
    rng = np.random.default_rng(seed)
    spoiled, labels = clean.clone(), torch.zeros(len(clean), dtype=torch.long)
    for i in range(len(clean)):
        if rng.random() > 0.25:
            continue
        labels[i] = 1
        kind, channel, start = rng.integers(4), rng.integers(3), int(rng.integers(0, 24))
        if kind == 0:
            spoiled[i, channel, start : start + 8] += 3.0
        elif kind == 1:
            spoiled[i, channel, start : start + 40] = 0.0
        elif kind == 2:
            spoiled[i, channel] = -clean[i, channel].flip(0)
        else:
            spoiled[i, channel] = clean[i, channel].repeat(2)[::2]
    return spoiled, labels


series = pump(26000, seed=0)
cut = 20800
mean, std = series[:, :cut].mean(dim=1, keepdim=True), series[:, :cut].std(dim=1, keepdim=True)
series = (series - mean) / std
train_x = windows(series[:, :cut], stride=8)
valid_x = windows(series[:, cut:], stride=8)
test_x, test_y = spoil(windows((pump(32000, seed=1) - mean) / std, stride=WINDOW), seed=2)


# ---------------------------------------------------------------- model
def autoencoder(code=12):
    return nn.Sequential(
        nn.Conv1d(3, 16, 7, stride=2, padding=3),
        nn.ReLU(),
        nn.Conv1d(16, 32, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv1d(32, 32, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 8, code),
        nn.Linear(code, 32 * 8),
        nn.ReLU(),
        nn.Unflatten(1, (32, 8)),
        nn.Upsample(scale_factor=2),
        nn.Conv1d(32, 32, 5, padding=2),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        nn.Conv1d(32, 16, 5, padding=2),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        nn.Conv1d(16, 3, 7, padding=3),
    )


@torch.no_grad()
def scores(model, x):
    model.eval()
    return ((model(x) - x) ** 2).mean(dim=(1, 2))


# ---------------------------------------------------------------- learner
class Callback:
    def before_fit(self, learn): ...
    def after_batch(self, learn): ...
    def after_epoch(self, learn): ...
    def after_fit(self, learn): ...


class OneCycle(Callback):
    def before_fit(self, learn):
        steps = learn.epochs * len(learn.train_dl)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(learn.opt, max_lr=learn.lr, total_steps=steps)

    def after_batch(self, learn):
        if learn.training:
            self.schedule.step()


class Report(Callback):
    def after_epoch(self, learn):
        learn.report(f"epoch {learn.epoch + 1:2d}  train {learn.train_loss:.4f}  valid {learn.valid_loss:.4f}")


class KeepBest(Callback):
    def before_fit(self, learn):
        self.best = math.inf

    def after_epoch(self, learn):
        if learn.valid_loss < self.best:
            self.best = learn.valid_loss
            self.weights = copy.deepcopy(learn.model.state_dict())

    def after_fit(self, learn):
        learn.model.load_state_dict(self.weights)


class Learner:
    def __init__(self, model, train_dl, valid_dl, loss_func, lr=2e-3, callbacks=()):
        self.model, self.train_dl, self.valid_dl = model, train_dl, valid_dl
        self.loss_func, self.lr, self.callbacks = loss_func, lr, callbacks
        self.opt = torch.optim.Adam(model.parameters(), lr=lr)

    def __call__(self, event):
        for callback in self.callbacks:
            getattr(callback, event)(self)

    def one_batch(self, x):
        self.pred = self.model(x)
        self.loss = self.loss_func(self.pred, x)
        if self.training:
            self.loss.backward()
            self.opt.step()
            self.opt.zero_grad()
        self("after_batch")
        return self.loss.item() * len(x)

    def one_epoch(self, loader, training):
        self.training = training
        self.model.train(training)
        with torch.set_grad_enabled(training):
            total = sum(self.one_batch(x) for (x,) in loader)
        return total / len(loader.dataset)

    def fit(self, epochs):
        self.epochs = epochs
        self("before_fit")
        for self.epoch in range(epochs):
            self.train_loss = self.one_epoch(self.train_dl, True)
            self.valid_loss = self.one_epoch(self.valid_dl, False)
            self("after_epoch")
        self("after_fit")

    def report(self, title):
        limit = torch.quantile(scores(self.model, valid_x), 0.99)
        found = scores(self.model, test_x)
        auroc = roc_auc_score(test_y.numpy(), found.numpy())
        f1 = f1_score(test_y.numpy(), (found > limit).long().numpy())
        print(f"{title}  AUROC {auroc:.3f}  F1 {f1:.3f}")


torch.manual_seed(0)
torch.set_num_threads(1)
train_dl = DataLoader(TensorDataset(train_x), batch_size=32, shuffle=True)
valid_dl = DataLoader(TensorDataset(valid_x), batch_size=128)
learn = Learner(autoencoder(), train_dl, valid_dl, nn.MSELoss(), callbacks=[OneCycle(), KeepBest(), Report()])
learn.fit(40)
learn.report("best weights")
