"""Learning with noisy labels: a quarter of the training labels is wrong on purpose, as if from cheap annotators.

As in co-teaching, samples of small loss are taken for clean: a callback drops the quarter of each batch that has the
largest loss. Validation labels are clean. The learner and its callbacks are like fastai's.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

NOISE = 0.25


class Callback:
    order = 0

    def __getattr__(self, name):
        if name.startswith(("before_", "after_")):
            return lambda: None
        raise AttributeError(name)


class DataLoaders:
    def __init__(self, train, valid):
        self.train, self.valid = train, valid


class Learner:
    def __init__(self, dls, model, loss_func, opt_func, cbs=()):
        self.dls, self.model, self.loss_func, self.opt_func = dls, model, loss_func, opt_func
        self.cbs = sorted(cbs, key=lambda cb: cb.order)
        for cb in self.cbs:
            cb.learn = self

    def __call__(self, event):
        for cb in self.cbs:
            getattr(cb, event)()

    def one_batch(self):
        self.pred = self.model(self.xb)
        self.losses = self.loss_func(self.pred, self.yb)  # one for each sample
        self.loss = self.losses.mean()
        self("after_loss")
        if self.model.training:
            self.loss.backward()
            self.opt.step()
            self("after_step")
            self.opt.zero_grad()
        self("after_batch")

    def one_epoch(self, train):
        self.model.train(train)
        self("before_train" if train else "before_validate")
        with torch.set_grad_enabled(train):
            for self.xb, self.yb in self.dls.train if train else self.dls.valid:
                self.one_batch()
        self("after_train" if train else "after_validate")

    def fit(self, n_epoch, lr):
        self.n_epoch, self.lr = n_epoch, lr
        self.opt = self.opt_func(self.model.parameters(), lr=lr)
        self("before_fit")
        for self.epoch in range(n_epoch):
            self.one_epoch(True)
            self.one_epoch(False)
            self("after_epoch")
        self("after_fit")


class SmallLossSelection(Callback):
    """Leaves out the samples of largest loss; their share grows from 0 to `forget_rate` in the first epochs."""

    order = 1

    def __init__(self, forget_rate, warmup_epochs=4):
        self.forget_rate, self.warmup_epochs = forget_rate, warmup_epochs

    def after_loss(self):
        learn = self.learn
        if not learn.model.training:
            return
        rate = self.forget_rate * min(1.0, learn.epoch / self.warmup_epochs)
        keep = int(round((1 - rate) * len(learn.losses)))
        small = learn.losses.detach().argsort()[:keep]
        learn.loss = learn.losses[small].mean()


class CosineSchedule(Callback):
    def before_fit(self):
        learn = self.learn
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
            learn.opt, T_max=learn.n_epoch * len(learn.dls.train), eta_min=learn.lr / 100
        )

    def after_step(self):
        self.scheduler.step()


class Recorder(Callback):
    order = 2

    def before_train(self):
        self.train_loss = self.seen = 0

    def before_validate(self):
        self.valid_loss = self.right = self.count = 0

    def after_batch(self):
        learn, n = self.learn, len(self.learn.yb)
        if learn.model.training:
            self.train_loss += learn.loss.item() * n
            self.seen += n
        else:
            self.valid_loss += learn.losses.sum().item()
            self.right += (learn.pred.argmax(1) == learn.yb).sum().item()
            self.count += n

    def after_epoch(self):
        print(
            f"{self.learn.epoch:3d} train_loss {self.train_loss / self.seen:.4f} "
            f"valid_loss {self.valid_loss / self.count:.4f} accuracy {self.right / self.count:.4f}"
        )


def get_dls(bs=64):
    (train_x, train_y), (valid_x, valid_y) = draw_digits(3200, seed=40), draw_digits(600, seed=41)
    generator = torch.Generator().manual_seed(42)
    wrong = torch.rand(len(train_y), generator=generator) < NOISE
    offset = torch.randint(1, 10, (len(train_y),), generator=generator)
    noisy_y = torch.where(wrong, (train_y + offset) % 10, train_y)
    train_x, valid_x = train_x.float() / 255, valid_x.float() / 255
    mean, std = train_x.mean(), train_x.std()
    return DataLoaders(
        DataLoader(TensorDataset((train_x - mean) / std, noisy_y), bs, shuffle=True, drop_last=True),
        DataLoader(TensorDataset((valid_x - mean) / std, valid_y), 2 * bs),
    )


def conv(ni, nf, stride=1):
    return nn.Sequential(nn.Conv2d(ni, nf, 3, stride, 1, bias=False), nn.BatchNorm2d(nf), nn.ReLU(inplace=True))


if __name__ == "__main__":
    torch.manual_seed(12)
    model = nn.Sequential(
        conv(1, 24), conv(24, 48, 2), conv(48, 48), conv(48, 64, 2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(1024, 10)
    )
    learn = Learner(
        get_dls(),
        model,
        nn.CrossEntropyLoss(reduction="none"),
        torch.optim.Adam,
        cbs=[SmallLossSelection(NOISE), CosineSchedule(), Recorder()],
    )
    learn.fit(14, 2e-3)
