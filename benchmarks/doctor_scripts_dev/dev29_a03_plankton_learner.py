"""Which plankton are in the drop? Several may be: five yes-or-no answers an image, with a small learner and callbacks."""
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

KINDS = ["disc", "ring", "upright rod", "lying rod", "cross"]


# ---------------------------------------------------------------- data
def silhouettes():
    y, x = np.mgrid[0:9, 0:9]
    radius = np.hypot(y - 4, x - 4)
    return [
        radius <= 4,
        (radius <= 4.5) & (radius >= 3),
        (x >= 4) & (x <= 5),
        (y >= 4) & (y <= 5),
        (np.abs(y - x) <= 1) | (np.abs(y + x - 8) <= 1),
    ]


def drops(count, seed, size=32):
    rng = np.random.default_rng(seed)
    shapes = silhouettes()
    present = rng.random((count, len(KINDS))) < 0.4
    images = np.zeros((count, 1, size, size), dtype=np.float32)
    for image, row in zip(images, present):
        for kind in rng.permutation(np.flatnonzero(row)):
            top, left = rng.integers(0, size - 9 + 1, 2)
            patch = image[0, top : top + 9, left : left + 9]
            patch[shapes[kind]] = rng.uniform(0.5, 1.0)
    images += 0.08 * rng.standard_normal(images.shape).astype(np.float32)
    return torch.from_numpy((images - 0.1) / 0.3), torch.from_numpy(present).float()


# ---------------------------------------------------------------- learner
class Callback:
    def before_fit(self, learn): ...
    def before_epoch(self, learn): ...
    def after_batch(self, learn): ...
    def after_step(self, learn): ...
    def after_epoch(self, learn): ...


class Learner:
    def __init__(self, model, train_dl, valid_dl, loss_func, opt_func, lr, cbs=()):
        self.model, self.train_dl, self.valid_dl, self.loss_func = model, train_dl, valid_dl, loss_func
        self.lr, self.opt, self.cbs = lr, opt_func(model.parameters(), lr=lr), list(cbs)

    def __call__(self, event):
        for cb in self.cbs:
            getattr(cb, event)(self)

    def one_batch(self):
        self.logits = self.model(self.xb)
        self.probs = torch.sigmoid(self.logits.detach())
        self.loss = self.loss_func(self.logits, self.yb)
        self("after_batch")
        if self.training:
            self.loss.backward()
            self.opt.step()
            self.opt.zero_grad()
            self("after_step")

    def one_epoch(self, training):
        self.training = training
        self.model.train(training)
        self("before_epoch")
        with torch.set_grad_enabled(training):
            for self.xb, self.yb in self.train_dl if training else self.valid_dl:
                self.one_batch()
        self("after_epoch")

    def fit(self, epochs):
        self.epochs = epochs
        self("before_fit")
        for self.epoch in range(epochs):
            self.one_epoch(True)
            self.one_epoch(False)


class OneCycle(Callback):
    def before_fit(self, learn):
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            learn.opt, max_lr=learn.lr, total_steps=learn.epochs * len(learn.train_dl), cycle_momentum=False
        )

    def after_step(self, learn):
        self.schedule.step()


class Recorder(Callback):
    def before_epoch(self, learn):
        self.total, self.seen = 0.0, 0

    def after_batch(self, learn):
        self.total += learn.loss.item() * len(learn.xb)
        self.seen += len(learn.xb)

    def after_epoch(self, learn):
        part = "train" if learn.training else "valid"
        print(f"epoch {learn.epoch + 1:2d} {part} loss {self.total / self.seen:.4f}")


class MicroF1(Callback):
    """F1 over all answers of the validation set."""

    def before_epoch(self, learn):
        self.tp = self.fp = self.fn = 0

    def after_batch(self, learn):
        said = learn.probs > 0.5
        true = learn.yb.bool()
        self.tp += (said & true).sum().item()
        self.fp += (said & ~true).sum().item()
        self.fn += (~said & true).sum().item()

    def after_epoch(self, learn):
        if not learn.training:
            self.value = 2 * self.tp / max(1, 2 * self.tp + self.fp + self.fn)
            print(f"epoch {learn.epoch + 1:2d} valid micro F1 {self.value:.4f}")


# ---------------------------------------------------------------- model and training
def conv(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def plankton_net():
    return nn.Sequential(
        conv(1, 24),
        nn.MaxPool2d(2),
        conv(24, 48),
        nn.MaxPool2d(2),
        conv(48, 96),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(96, len(KINDS)),
    )


if __name__ == "__main__":
    torch.manual_seed(3)
    train_dl = DataLoader(TensorDataset(*drops(1600, seed=0)), batch_size=32, shuffle=True)
    valid_dl = DataLoader(TensorDataset(*drops(400, seed=1)), batch_size=100)
    learn = Learner(
        plankton_net(),
        train_dl,
        valid_dl,
        loss_func=nn.BCEWithLogitsLoss(),
        opt_func=partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=1e-4),
        lr=0.05,
        cbs=[OneCycle(), Recorder(), MicroF1()],
    )
    learn.fit(16)
