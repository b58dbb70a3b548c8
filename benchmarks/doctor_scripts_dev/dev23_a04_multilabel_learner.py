"""Which of six objects are in the picture? Multi-label classification with a tiny learner and callbacks (after fastai)."""

from collections import namedtuple
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import COLORS, NAMES, shape_mask

DataLoaders = namedtuple("DataLoaders", "train valid")


# ---------------------------------------------------------------- data

def make_scene(rng, size):
    image = np.empty((3, size, size), np.float32)
    image[:] = rng.uniform(0.4, 0.6)
    present = np.zeros(len(NAMES), np.float32)
    taken = []
    for k in rng.permutation(len(NAMES)):
        if rng.random() > 0.35:
            continue
        color, kind = NAMES[k].split()
        for _ in range(15):
            width = int(rng.integers(7, 12))
            top, left = rng.integers(0, size - width + 1, 2).tolist()
            if all(abs(top - t) > max(width, w) or abs(left - l) > max(width, w) for t, l, w in taken):
                mask = shape_mask(kind, size, top, left, width).numpy()
                image[:, mask] = 0.85 * np.array(COLORS[color])[:, None]
                taken.append((top, left, width))
                present[k] = 1
                break
    image += rng.normal(0, 0.04, image.shape)
    return image.clip(0, 1), present


class SceneDataset(Dataset):
    def __init__(self, count, seed, size=32):
        rng = np.random.default_rng(seed)
        # drawn once, kept in memory
        self.images = np.zeros((count, 3, size, size), dtype=np.float32)
        self.labels = torch.zeros(count, len(NAMES))
        for i in range(count):
            image, present = make_scene(rng, size)
            self.images[i] = image
            self.labels[i] = torch.from_numpy(present)

    def __len__(self): return len(self.images)

    def __getitem__(self, i):
        image = torch.from_numpy(self.images[i]).float()
        return (image - 0.47) / 0.15, self.labels[i]


# ---------------------------------------------------------------- learner

class Callback:
    learn = None
    def before_fit(self): pass
    def before_epoch(self): pass
    def before_batch(self): pass
    def after_loss(self): pass
    def after_step(self): pass
    def after_epoch(self): pass


class Learner:
    def __init__(self, dls, model, loss_func, opt_func=torch.optim.AdamW, cbs=()):
        self.dls, self.model, self.loss_func, self.opt_func = dls, model, loss_func, opt_func
        self.cbs = list(cbs)
        for cb in self.cbs: cb.learn = self

    def __call__(self, event):
        for cb in self.cbs: getattr(cb, event)()

    def one_batch(self):
        self("before_batch")
        self.pred = self.model(self.xb)
        self.loss = self.loss_func(self.pred, self.yb)
        self("after_loss")
        if not self.training: return
        self.loss.backward()
        self.opt.step()
        self("after_step")
        self.opt.zero_grad()

    def all_batches(self, training):
        self.training = training
        self.model.train(training)
        with torch.set_grad_enabled(training):
            for self.xb, self.yb in self.dls.train if training else self.dls.valid: self.one_batch()

    def fit_one_cycle(self, epochs, lr):
        self.epochs, self.lr = epochs, lr
        self.opt = self.opt_func(self.model.parameters(), lr=lr)
        self("before_fit")
        for self.epoch in range(epochs):
            self("before_epoch")
            self.all_batches(training=True)
            self.all_batches(training=False)
            self("after_epoch")


class OneCycle(Callback):
    def before_fit(self):
        steps = self.learn.epochs * len(self.learn.dls.train)
        self.sched = torch.optim.lr_scheduler.OneCycleLR(self.learn.opt, self.learn.lr, total_steps=steps)

    def after_step(self): self.sched.step()


class BatchAugment(Callback):
    def before_batch(self):
        if not self.learn.training: return
        xb = self.learn.xb
        flip = (torch.rand(len(xb)) < 0.5)[:, None, None, None]
        xb = torch.where(flip, xb.flip(3), xb)
        contrast = 0.9 + 0.2 * torch.rand(len(xb), 1, 1, 1)
        self.learn.xb = xb * contrast


class Recorder(Callback):
    def before_epoch(self): self.losses, self.preds, self.targs = {True: [], False: []}, [], []

    def after_loss(self):
        self.losses[self.learn.training].append(self.learn.loss.detach())
        if not self.learn.training:
            self.preds.append(self.learn.pred)
            self.targs.append(self.learn.yb)

    def after_epoch(self):
        preds, targs = torch.cat(self.preds), torch.cat(self.targs).bool()
        hit = preds > 0
        tp, fp, fn = (hit & targs).sum(0), (hit & ~targs).sum(0), (~hit & targs).sum(0)
        f1 = (2 * tp / (2 * tp + fp + fn).clamp(min=1)).mean()
        exact = (hit == targs).all(1).float().mean()
        train, valid = (torch.stack(self.losses[part]).mean() for part in (True, False))
        print(f"{self.learn.epoch:>3} train_loss {train:.4f} valid_loss {valid:.4f} macro_f1 {f1:.4f} exact {exact:.4f}")


# ---------------------------------------------------------------- go

def conv(ni, nf, pool=False):
    layers = [nn.Conv2d(ni, nf, 3, padding=1, bias=False), nn.BatchNorm2d(nf), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2)) if pool else nn.Sequential(*layers)


def get_model():
    return nn.Sequential(
        conv(3, 16, pool=True),
        conv(16, 32, pool=True),
        conv(32, 48),
        conv(48, 64),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(64, len(NAMES)),
    )


torch.manual_seed(7)
train_ds, valid_ds = SceneDataset(1600, seed=0), SceneDataset(300, seed=1)
dls = DataLoaders(DataLoader(train_ds, batch_size=32, shuffle=True, drop_last=True), DataLoader(valid_ds, batch_size=100))
learn = Learner(
    dls,
    get_model(),
    loss_func=nn.BCEWithLogitsLoss(),
    opt_func=partial(torch.optim.AdamW, weight_decay=0.01),
    cbs=[OneCycle(), BatchAugment(), Recorder()],
)
learn.fit_one_cycle(15, lr=5e-3)
