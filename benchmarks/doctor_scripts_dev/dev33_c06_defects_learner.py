"""Rare defects on brushed metal: a weighted sampler, a small learner with callbacks, the threshold set on validation."""

import copy
from functools import partial

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, f1_score
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler


def make_plates(count, seed, rate=0.12, size=16):
    rng = np.random.default_rng(seed)
    grain = rng.normal(size=(count, size, size))
    grain = sum(np.roll(grain, k, axis=2) for k in range(4)) / 2
    images = 0.5 + 0.08 * grain
    labels = rng.random(count) < rate
    ys, xs = np.mgrid[0:size, 0:size]
    for i in np.flatnonzero(labels):
        cy, cx = rng.uniform(4, size - 4, 2)
        if rng.random() < 0.5:  # a bright scratch
            angle = rng.uniform(0, np.pi)
            across = (xs - cx) * np.sin(angle) - (ys - cy) * np.cos(angle)
            along = (xs - cx) * np.cos(angle) + (ys - cy) * np.sin(angle)
            images[i][(np.abs(across) < 0.8) & (np.abs(along) < 5)] += 0.35
        else:  # a dark pit
            images[i][(xs - cx) ** 2 + (ys - cy) ** 2 < rng.uniform(1.6, 2.6) ** 2] -= 0.35
    images = torch.from_numpy((images - 0.5) / 0.1).float().unsqueeze(1)
    return TensorDataset(images, torch.from_numpy(labels).float())


class Flips:
    def before_batch(self, learn):
        if learn.training:
            for axis in (-1, -2):
                chosen = torch.rand(len(learn.xb), 1, 1, 1) < 0.5
                learn.xb = torch.where(chosen, learn.xb.flip(axis), learn.xb)


class ClipGradients:
    def after_backward(self, learn):
        nn.utils.clip_grad_norm_(learn.model.parameters(), 2.0)


class OneCycle:
    def __init__(self, lr):
        self.lr = lr

    def before_fit(self, learn):
        steps = learn.epochs * len(learn.train_dl)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(learn.opt, max_lr=self.lr, total_steps=steps)

    def after_step(self, learn):
        self.scheduler.step()


class Scores:
    def before_epoch(self, learn):
        self.loss, self.scores, self.labels = [], [], []

    def after_batch(self, learn):
        if learn.training:
            self.loss.append(learn.loss.detach())
        else:
            self.scores.append(learn.pred.sigmoid())
            self.labels.append(learn.yb)

    def after_epoch(self, learn):
        scores, labels = torch.cat(self.scores).numpy(), torch.cat(self.labels).int().numpy()
        learn.score = average_precision_score(labels, scores)
        f1 = f1_score(labels, (scores > 0.5).astype(int))
        loss = torch.stack(self.loss).mean()
        print(f"epoch {learn.epoch + 1:2d}  loss {loss:.4f}  average precision {learn.score:.3f}  F1 {f1:.3f}")


class KeepBest:
    def before_fit(self, learn):
        self.best = -1.0

    def after_epoch(self, learn):
        if learn.score > self.best:
            self.best, self.state = learn.score, copy.deepcopy(learn.model.state_dict())

    def after_fit(self, learn):
        learn.model.load_state_dict(self.state)


class Learner:
    def __init__(self, model, train_dl, valid_dl, loss_func, opt_func, cbs):
        self.model, self.train_dl, self.valid_dl, self.loss_func, self.cbs = model, train_dl, valid_dl, loss_func, cbs
        self.opt = opt_func(model.parameters())

    def __call__(self, event):
        for callback in self.cbs:
            getattr(callback, event, lambda learn: None)(self)

    def one_batch(self):
        self("before_batch")
        self.pred = self.model(self.xb).squeeze(1)
        self.loss = self.loss_func(self.pred, self.yb)
        if self.training:
            self.loss.backward()
            self("after_backward")
            self.opt.step()
            self("after_step")
            self.opt.zero_grad()
        self("after_batch")

    def run(self, loader, training):
        self.training = training
        self.model.train(training)
        with torch.set_grad_enabled(training):
            for self.xb, self.yb in loader:
                self.one_batch()

    def fit(self, epochs):
        self.epochs = epochs
        self("before_fit")
        for self.epoch in range(epochs):
            self("before_epoch")
            self.run(self.train_dl, True)
            self.run(self.valid_dl, False)
            self("after_epoch")
        self("after_fit")

    @torch.no_grad()
    def predict(self, dataset):
        self.model.eval()
        images, labels = dataset.tensors
        return self.model(images).squeeze(1).sigmoid().numpy(), labels.int().numpy()


def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


torch.manual_seed(1)
torch.set_num_threads(1)
train_set, valid_set, test_set = make_plates(3000, 0), make_plates(800, 1), make_plates(800, 2)
labels = train_set.tensors[1]
defects = labels.sum()
weights = torch.where(labels == 1, 0.5 / defects, 0.5 / (len(labels) - defects))
sampler = WeightedRandomSampler(weights, num_samples=len(labels))
train_dl = DataLoader(train_set, batch_size=64, sampler=sampler, drop_last=True)
valid_dl = DataLoader(valid_set, batch_size=200)
model = nn.Sequential(
    block(1, 24), nn.MaxPool2d(2), block(24, 48), nn.MaxPool2d(2), block(48, 64),
    nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 1),
)
loss_func = nn.BCEWithLogitsLoss()
opt_func = partial(torch.optim.AdamW, lr=4e-3, weight_decay=1e-2)
learn = Learner(model, train_dl, valid_dl, loss_func, opt_func,
                cbs=[Flips(), ClipGradients(), OneCycle(4e-3), Scores(), KeepBest()])
learn.fit(24)

scores, truth = learn.predict(valid_set)
limits = np.linspace(0.05, 0.95, 19)
limit = max(limits, key=lambda value: f1_score(truth, (scores > value).astype(int)))
scores, truth = learn.predict(test_set)
print(f"test: average precision {average_precision_score(truth, scores):.3f}, "
      f"F1 {f1_score(truth, (scores > limit).astype(int)):.3f} at the threshold {limit:.2f}")
