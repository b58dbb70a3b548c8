"""A small layered training library (DataBunch, Learner, callbacks) and an experiment on colored shapes."""

import re
from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


def listify(o):
    if o is None:
        return []
    return list(o) if isinstance(o, (list, tuple)) else [o]


class ArrayDataset(Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


def channel_stats(x):
    return x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True)


def normalize(x, stats):
    mean, std = stats
    return (x - mean) / std


class DataBunch:
    def __init__(self, train_dl, valid_dl, c):
        self.train_dl, self.valid_dl, self.c = train_dl, valid_dl, c

    @classmethod
    def from_shapes(cls, bs=50):
        train, valid = Shapes(train=True), Shapes(train=False)
        x_train, x_valid = torch.stack(train.images) * 255, torch.stack(valid.images) * 255
        stats = channel_stats(x_train)
        x_train, x_valid = normalize(x_train, stats), normalize(x_valid, stats)
        train_ds = ArrayDataset(x_train, torch.tensor(train.targets))
        valid_ds = ArrayDataset(x_valid, torch.tensor(valid.targets))
        return cls(DataLoader(train_ds, bs, shuffle=True), DataLoader(valid_ds, bs * 2), 6)


class CancelBatch(Exception):
    pass


class Callback:
    order = 0
    learn = None

    @property
    def name(self):
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    def __getattr__(self, k):
        if k == "learn" or k.startswith("_"):
            raise AttributeError(k)
        return getattr(self.learn, k)

    def __call__(self, event):
        f = self.__class__.__dict__.get(event) or getattr(type(self), event, None)
        if f:
            f(self)


class TrainEval(Callback):
    order = -10

    def begin_train(self):
        self.model.train()

    def begin_validate(self):
        self.model.eval()


class MixUp(Callback):
    order = 20

    def __init__(self, alpha=0.2):
        self.beta = torch.distributions.Beta(alpha, alpha)

    def begin_batch(self):
        if not self.learn.training:
            return
        lam = self.beta.sample((len(self.learn.xb),))
        lam = torch.max(lam, 1 - lam)
        shuffle = torch.randperm(len(lam))
        self.lam, self.yb1 = lam, self.learn.yb[shuffle]
        w = lam[:, None, None, None]
        self.learn.xb = w * self.learn.xb + (1 - w) * self.learn.xb[shuffle]

    def after_loss(self):
        if not self.learn.training:
            return
        loss0 = F.cross_entropy(self.learn.pred, self.learn.yb, reduction="none")
        loss1 = F.cross_entropy(self.learn.pred, self.yb1, reduction="none")
        self.learn.loss = (self.lam * loss0 + (1 - self.lam) * loss1).mean()


class OneCycle(Callback):
    order = 30

    def __init__(self, pct_start=0.3):
        self.pct_start = pct_start

    def begin_fit(self):
        total = self.learn.epochs * len(self.learn.data.train_dl)
        lrs = [g["lr"] for g in self.learn.opt.param_groups]
        self.sched = torch.optim.lr_scheduler.OneCycleLR(self.learn.opt, lrs, total_steps=total, pct_start=self.pct_start)

    def after_step(self):
        self.sched.step()

    def after_epoch(self):
        self.last_lr = self.sched.get_last_lr()


class Recorder(Callback):
    order = 50

    def begin_validate(self):
        self.tot, self.right, self.n = 0.0, 0, 0

    def after_loss(self):
        if self.learn.training:
            return
        n = len(self.learn.yb)
        self.tot += self.learn.loss.item() * n
        self.right += (self.learn.pred.argmax(1) == self.learn.yb).sum().item()
        self.n += n

    def after_epoch(self):
        print(f"epoch {self.learn.epoch:2d}  valid_loss {self.tot / self.n:.4f}  accuracy {self.right / self.n:.4f}")


class Learner:
    def __init__(self, data, model, loss_func, opt_func, splitter, lrs, cbs=None):
        self.data, self.model, self.loss_func = data, model, loss_func
        self.opt = opt_func([{"params": list(p), "lr": lr} for p, lr in zip(splitter(model), lrs)])
        self.cbs = sorted([TrainEval(), Recorder()] + listify(cbs), key=lambda cb: cb.order)
        for cb in self.cbs:
            cb.learn = self

    def __call__(self, event):
        for cb in self.cbs:
            cb(event)

    def one_batch(self, xb, yb):
        self.xb, self.yb = xb, yb
        self("begin_batch")
        self.pred = self.model(self.xb)
        self.loss = self.loss_func(self.pred, self.yb)
        self("after_loss")
        if not self.training:
            return
        self.loss.backward()
        self.opt.step()
        self("after_step")
        self.opt.zero_grad()

    def fit(self, epochs):
        self.epochs = epochs
        self("begin_fit")
        for self.epoch in range(epochs):
            self.training = True
            self("begin_train")
            for xb, yb in self.data.train_dl:
                self.one_batch(xb, yb)
            self.training = False
            self("begin_validate")
            with torch.no_grad():
                for xb, yb in self.data.valid_dl:
                    self.one_batch(xb, yb)
            self("after_epoch")


def conv_layer(ni, nf, ks=3, stride=1):
    return nn.Sequential(nn.Conv2d(ni, nf, ks, stride, ks // 2, bias=False), nn.BatchNorm2d(nf), nn.ReLU(inplace=True))


def get_model(c):
    body = nn.Sequential(conv_layer(3, 24), conv_layer(24, 32, stride=2), conv_layer(32, 48), conv_layer(48, 64, stride=2))
    head = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, c))
    return nn.Sequential(body, head)


def body_head(model):
    return [model[0].parameters(), model[1].parameters()]


if __name__ == "__main__":
    torch.manual_seed(7)
    data = DataBunch.from_shapes()
    opt_func = partial(torch.optim.SGD, momentum=0.9, weight_decay=1e-4)
    learn = Learner(data, get_model(data.c), nn.CrossEntropyLoss(), opt_func, body_head, (0.04, 0.08), [MixUp(), OneCycle()])
    learn.fit(14)
