"""Fastai-like Learner with callbacks; a tiny U-Net segments bright shapes on an uneven background."""
import math
from copy import deepcopy
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(2024)


def make_images(n, size=32, seed=0):
    g = torch.Generator().manual_seed(seed)
    rnd = partial(torch.rand, generator=g)
    yy, xx = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
    X, Y = torch.zeros(n, 1, size, size), torch.zeros(n, 1, size, size)
    for i in range(n):
        a = rnd(1) * 2 * math.pi
        light = 0.5 * ((xx / size - .5) * a.cos() + (yy / size - .5) * a.sin())
        mask = torch.zeros(size, size, dtype=torch.bool)
        for _ in range(int(rnd(1) * 3) + 1):
            cy, cx = rnd(2) * (size - 10) + 5
            ry, rx = rnd(2) * 4 + 2.5
            t = rnd(1) * math.pi
            u = (xx - cx) * t.cos() + (yy - cy) * t.sin()
            v = -(xx - cx) * t.sin() + (yy - cy) * t.cos()
            mask |= (u / rx) ** 2 + (v / ry) ** 2 < 1
        img = 0.4 + light + 0.25 * mask + 0.15 * torch.randn(size, size, generator=g)
        X[i, 0], Y[i, 0] = img, mask.float()
    return X, Y


class DataBunch:
    def __init__(self, train, valid, bs=32, tfm=None):
        self.train, self.valid, self.bs, self.tfm = train, valid, bs, tfm
        self.mean, self.std = train[0].mean(), train[0].std()

    def norm(self, x): return (x - self.mean) / self.std

    def train_dl(self):
        xs, ys = self.train
        for idx in torch.randperm(len(xs)).split(self.bs):
            xb, yb = xs[idx], ys[idx]
            if self.tfm: xb, yb = self.tfm(xb, yb)
            yield self.norm(xb), yb

    def valid_dl(self):
        xs, ys = self.valid
        for xb, yb in zip(xs.split(2 * self.bs), ys.split(2 * self.bs)):
            yield self.norm(xb), yb

    def __len__(self): return math.ceil(len(self.train[0]) / self.bs)


def random_flips(xb, yb):
    for dim in (2, 3):
        if torch.rand(1) < 0.5:
            xb, yb = xb.flip(dim), yb.flip(dim)
    return xb, yb


def conv(ni, nf):
    return nn.Sequential(nn.Conv2d(ni, nf, 3, padding=1, bias=False), nn.BatchNorm2d(nf), nn.ReLU(inplace=True))


class UNet(nn.Module):
    def __init__(self, w=8):
        super().__init__()
        self.d1, self.d2, self.mid = conv(1, w), conv(w, 2 * w), conv(2 * w, 4 * w)
        self.u2, self.u1 = conv(6 * w, 2 * w), conv(3 * w, w)
        self.out = nn.Conv2d(w, 1, 1)

    def forward(self, x):
        a = self.d1(x)
        b = self.d2(F.max_pool2d(a, 2))
        c = self.mid(F.max_pool2d(b, 2))
        y = self.u2(torch.cat([F.interpolate(c, scale_factor=2), b], 1))
        y = self.u1(torch.cat([F.interpolate(y, scale_factor=2), a], 1))
        return self.out(y)


def dice_score(logits, y):
    p = (logits > 0).float()
    return (2 * (p * y).sum() / (p.sum() + y.sum()).clamp(min=1)).item()


class Callback:
    order = 0

    def __getattr__(self, k): return getattr(self.__dict__["learn"], k)


class Recorder(Callback):
    order = 50

    def begin_epoch(self): self.learn.tot, self.learn.cnt = 0., 0

    def after_batch(self):
        self.learn.tot += self.loss.item() * len(self.yb)
        self.learn.cnt += len(self.yb)

    def after_epoch(self):
        if self.epoch % 2 == 0 or self.epoch == self.n_epochs - 1:
            print(f"{self.epoch:3d}  train {self.tot / self.cnt:.4f}  valid {self.valid_loss:.4f}  "
                  f"dice {self.valid_dice:.4f}  lr {self.opt.param_groups[0]['lr']:.1e}")


class OneCycle(Callback):
    def __init__(self, pct=0.2, start=0.1): self.pct, self.start = pct, start

    def begin_batch(self):
        pos = self.step / (self.n_epochs * len(self.data))
        if pos < self.pct:
            k = self.start + (1 - self.start) * pos / self.pct
        else:
            k = 0.5 * (1 + math.cos(math.pi * (pos - self.pct) / (1 - self.pct)))
        for g in self.opt.param_groups: g["lr"] = self.lr * k


class KeepBest(Callback):
    order, best = 60, -1.

    def after_epoch(self):
        if self.valid_dice > self.best:
            self.best, self.state = self.valid_dice, deepcopy(self.model.state_dict())

    def after_fit(self): self.model.load_state_dict(self.state)


class Learner:
    def __init__(self, data, model, loss_func, opt_func=optim.AdamW, lr=1e-2, cbs=()):
        self.data, self.model, self.loss_func = data, model, loss_func
        self.opt_func, self.lr = opt_func, lr
        self.cbs = sorted(cbs, key=lambda c: c.order)
        for c in self.cbs: c.learn = self

    def __call__(self, name):
        for c in self.cbs:
            f = getattr(type(c), name, None)
            if f is not None: f(c)

    def one_batch(self, xb, yb):
        self.xb, self.yb = xb, yb
        self("begin_batch")
        self.loss = self.loss_func(self.model(xb), yb)
        self.loss.backward()
        self.opt.step()
        self.opt.zero_grad()
        self.step += 1
        self("after_batch")

    @torch.no_grad()
    def get_preds(self, dl):
        self.model.eval()
        outs, targs = zip(*[(self.model(xb), yb) for xb, yb in dl])
        return torch.cat(outs), torch.cat(targs)

    def fit(self, n_epochs):
        self.n_epochs, self.step = n_epochs, 0
        self.opt = self.opt_func(self.model.parameters(), lr=self.lr)
        self("begin_fit")
        for self.epoch in range(n_epochs):
            self.model.train()
            self("begin_epoch")
            for xb, yb in self.data.train_dl(): self.one_batch(xb, yb)
            preds, targs = self.get_preds(self.data.valid_dl())
            self.valid_loss, self.valid_dice = self.loss_func(preds, targs).item(), dice_score(preds, targs)
            self("after_epoch")
        self("after_fit")


if __name__ == "__main__":
    data = DataBunch(make_images(400, seed=1), make_images(150, seed=2), tfm=random_flips)
    learn = Learner(data, UNet(), F.binary_cross_entropy_with_logits, cbs=[Recorder(), OneCycle(), KeepBest()])
    learn.fit(9)

    test_x, test_y = make_images(200, seed=3)
    preds, targs = learn.get_preds([(data.norm(test_x), test_y)])
    print(f"test dice {dice_score(preds, targs):.4f}")
