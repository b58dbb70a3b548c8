"""A learner with callbacks and one-cycle, in the spirit of fastai; a MobileNet-like network with a frozen warm start."""
from functools import partial

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class DataBunch:
    def __init__(self, train_ds, valid_ds, bs):
        self.train_dl = DataLoader(train_ds, bs, shuffle=True, drop_last=True)
        self.valid_dl = DataLoader(valid_ds, bs * 2)


class Callback:
    def __init__(self):
        self.learn = None

    def before_fit(self): pass
    def before_batch(self): pass
    def after_pred(self): pass
    def after_loss(self): pass
    def after_backward(self): pass
    def after_step(self): pass
    def after_epoch(self): pass


class OneCycle(Callback):
    def __init__(self, max_lrs):
        super().__init__()
        self.max_lrs = max_lrs

    def before_fit(self):
        steps = self.learn.n_epochs * len(self.learn.data.train_dl)
        self.sched = torch.optim.lr_scheduler.OneCycleLR(self.learn.opt, self.max_lrs, total_steps=steps, pct_start=0.3)

    def after_step(self):
        self.sched.step()


class Recorder(Callback):
    def before_fit(self):
        self.losses = []

    def after_loss(self):
        if self.learn.training:
            self.losses.append(self.learn.loss.item())

    def after_epoch(self):
        n = len(self.learn.data.train_dl)
        mean = sum(self.losses[-n:]) / n
        print(f"{self.learn.epoch:3d} train {mean:.4f} valid {self.learn.valid_loss:.4f} acc {self.learn.valid_acc:.4f}")


class GradientClip(Callback):
    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def after_backward(self):
        nn.utils.clip_grad_norm_(self.learn.model.parameters(), self.limit)


class Learner:
    def __init__(self, data, model, loss_func, opt_func, splitter, cbs=()):
        self.data, self.model, self.loss_func = data, model, loss_func
        self.opt_func, self.splitter, self.cbs = opt_func, splitter, list(cbs)

    def __call__(self, name):
        for cb in self.cbs:
            cb.learn = self
            getattr(cb, name)()

    def freeze_to(self, n):
        groups = self.splitter(self.model)
        for i, group in enumerate(groups):
            for module in group:
                module.requires_grad_(i >= n)

    def one_batch(self, xb, yb):
        self.xb, self.yb = xb, yb
        self("before_batch")
        self.pred = self.model(xb)
        self("after_pred")
        self.loss = self.loss_func(self.pred, yb)
        self("after_loss")
        if not self.training:
            return
        self.loss.backward()
        self("after_backward")
        self.opt.step()
        self("after_step")
        self.opt.zero_grad()

    def fit_one_cycle(self, n_epochs, lrs):
        self.n_epochs = n_epochs
        groups = [[p for m in g for p in m.parameters()] for g in self.splitter(self.model)]
        self.opt = self.opt_func([{"params": g, "lr": lr} for g, lr in zip(groups, lrs)])
        extra = OneCycle(list(lrs))
        self.cbs.append(extra)
        self("before_fit")
        for self.epoch in range(n_epochs):
            self.training = True
            self.model.train()
            for xb, yb in self.data.train_dl:
                self.one_batch(xb, yb)
            self.training = False
            self.model.eval()
            loss_sum = hits = count = 0
            with torch.no_grad():
                for xb, yb in self.data.valid_dl:
                    self.one_batch(xb, yb)
                    loss_sum += self.loss.item() * len(yb)
                    hits += (self.pred.argmax(-1) == yb).sum().item()
                    count += len(yb)
            self.valid_loss, self.valid_acc = loss_sum / count, hits / count
            self("after_epoch")
        self.cbs.remove(extra)


def depthwise(ni, nf, stride):
    return nn.Sequential(
        nn.Conv2d(ni, ni, 3, stride, 1, groups=ni, bias=False), nn.BatchNorm2d(ni), nn.ReLU6(),
        nn.Conv2d(ni, nf, 1, bias=False), nn.BatchNorm2d(nf), nn.ReLU6())


def mobile_body():
    return nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(),
                         depthwise(16, 32, 1), depthwise(32, 48, 2), depthwise(48, 64, 1), depthwise(64, 96, 2))


def head(n_out):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(96), nn.Dropout(0.2), nn.Linear(96, n_out))


class ColorOnly(Dataset):
    """Easier labels for the body's pre-training: the color alone."""

    def __init__(self, base):
        self.base = base

    def __len__(self):
        return len(self.base)

    def __getitem__(self, i):
        x, y = self.base[i]
        return x, y // 3


def norm(x):
    return (x - 0.48) / 0.18


if __name__ == "__main__":
    torch.manual_seed(3)
    train_ds, valid_ds = Shapes(True, transform=norm), Shapes(False, transform=norm)
    splitter = lambda m: [[m[0]], [m[1]]]
    opt_func = partial(torch.optim.AdamW, weight_decay=0.01)
    body = mobile_body()
    print("pre-training on colors")
    pre = Learner(DataBunch(ColorOnly(train_ds), ColorOnly(valid_ds), 32), nn.Sequential(body, head(2)),
                  nn.CrossEntropyLoss(), opt_func, splitter, [Recorder(), GradientClip(5.0)])
    pre.fit_one_cycle(3, (5e-3, 5e-3))
    print("head only, then all")
    learn = Learner(DataBunch(train_ds, valid_ds, 32), nn.Sequential(body, head(6)),
                    nn.CrossEntropyLoss(), opt_func, splitter, [Recorder(), GradientClip(5.0)])
    learn.freeze_to(1)
    learn.fit_one_cycle(2, (5e-3, 5e-3))
    learn.freeze_to(0)
    learn.fit_one_cycle(22, (6e-3, 8e-3))
