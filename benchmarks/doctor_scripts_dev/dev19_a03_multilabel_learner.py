"""Which things are in the picture? Multi-label classification with a small learner in the manner of fastai."""
from functools import partial

import numpy as np
import torch
from sklearn.metrics import f1_score
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import shape_mask

VOCAB = ["square", "disc", "cross", "frame", "bars"]
FREQUENCY = torch.tensor([0.5, 0.4, 0.3, 0.12, 0.04])


def draw_thing(kind, width):
    if kind in ("square", "disc", "cross"):
        return shape_mask(kind, width, 0, 0, width)
    mask = torch.ones(width, width, dtype=torch.bool)
    if kind == "frame":
        mask[2:-2, 2:-2] = False
    else:
        mask[1::2] = False
    return mask


class Things(Dataset):
    def __init__(self, count, seed):
        g = torch.Generator().manual_seed(seed)
        self.y = (torch.rand(count, len(VOCAB), generator=g) < FREQUENCY).float()
        self.x = torch.zeros(count, 3, 24, 24)
        for i in range(count):
            self.x[i] += 0.4 * torch.rand(3, generator=g)[:, None, None]
            cells = torch.randperm(9, generator=g)
            for k in self.y[i].nonzero().flatten().tolist():
                top, left = 8 * (cells[k].item() // 3), 8 * (cells[k].item() % 3)
                width = 6 + torch.randint(0, 3, (1,), generator=g).item()
                mask = torch.zeros(24, 24, dtype=torch.bool)
                mask[top:top + width, left:left + width] = draw_thing(VOCAB[k], width)
                self.x[i][:, mask] = (0.5 + 0.5 * torch.rand(3, generator=g))[:, None]
        self.x = (self.x + 0.22 * torch.randn(self.x.shape, generator=g)).clamp(0, 1)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return (self.x[i] - 0.3) / 0.25, self.y[i]


class DataLoaders:
    def __init__(self, train_ds, valid_ds, bs):
        self.train = DataLoader(train_ds, bs, shuffle=True, drop_last=True)
        self.valid = DataLoader(valid_ds, bs)


class Callback:
    def before_fit(self, learn): pass
    def after_step(self, learn): pass
    def after_epoch(self, learn): pass


class OneCycle(Callback):
    def before_fit(self, learn):
        total = learn.n_epochs * len(learn.dls.train)
        self.sched = torch.optim.lr_scheduler.OneCycleLR(learn.opt, max_lr=learn.lr, total_steps=total)

    def after_step(self, learn):
        self.sched.step()


class Recorder(Callback):
    def after_epoch(self, learn):
        print(f"{learn.epoch:3d}  train_loss {learn.train_loss:.4f}  valid_loss {learn.valid_loss:.4f}  f1 {learn.metric.value():.4f}")


class MacroF1:
    def reset(self):
        self.preds, self.targs = [], []

    def accumulate(self, out, yb):
        self.preds.append((torch.sigmoid(out) > 0.5).int().numpy())
        self.targs.append(yb.int().numpy())

    def value(self):
        preds, targs = np.concatenate(self.preds), np.concatenate(self.targs)
        return f1_score(targs, preds, average="macro", zero_division=0)


class Learner:
    def __init__(self, dls, model, loss_func, opt_func, metric, cbs):
        self.dls, self.model, self.loss_func = dls, model, loss_func
        self.opt_func, self.metric, self.cbs = opt_func, metric, cbs

    def __call__(self, name):
        for cb in self.cbs:
            getattr(cb, name)(self)

    def one_epoch(self, dl, train):
        self.model.train(train)
        losses, count = 0.0, 0
        for xb, yb in dl:
            out = self.model(xb)
            loss = self.loss_func(out, yb)
            if train:
                loss.backward()
                self.opt.step()
                self.opt.zero_grad()
                self("after_step")
            else:
                self.metric.accumulate(out, yb)
            losses += loss.item() * len(xb)
            count += len(xb)
        return losses / count

    def fit(self, n_epochs, lr):
        self.n_epochs, self.lr = n_epochs, lr
        self.opt = self.opt_func(self.model.parameters(), lr=lr)
        self("before_fit")
        for self.epoch in range(n_epochs):
            self.train_loss = self.one_epoch(self.dls.train, train=True)
            self.metric.reset()
            with torch.no_grad():
                self.valid_loss = self.one_epoch(self.dls.valid, train=False)
            self("after_epoch")


def conv(ni, nf, stride=1):
    return nn.Sequential(nn.Conv2d(ni, nf, 3, stride, 1, bias=False), nn.BatchNorm2d(nf), nn.ReLU())


def get_model(n_out):
    return nn.Sequential(
        conv(3, 16), conv(16, 32, 2), conv(32, 48), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(48, n_out),
    )


torch.manual_seed(7)
train_ds, valid_ds = Things(1600, seed=1), Things(400, seed=2)
dls = DataLoaders(train_ds, valid_ds, bs=32)
share = train_ds.y.mean(0)
pos_weight = (1 - share) / share
learn = Learner(
    dls,
    get_model(len(VOCAB)),
    loss_func=nn.BCEWithLogitsLoss(pos_weight=pos_weight),
    opt_func=partial(torch.optim.AdamW, weight_decay=0.01),
    metric=MacroF1(),
    cbs=[OneCycle(), Recorder()],
)
learn.fit(10, lr=8e-3)
