"""In the idiom of fastai: DataLoaders, a Learner that calls callbacks by name, one-cycle; pictures with several labels."""

from types import SimpleNamespace

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

VOCAB = ["dot", "bar", "cross", "corner"]


def stamp(kind, plane, top, left):
    if kind == 0:
        plane[top : top + 3, left : left + 3] = 1.0
    elif kind == 1:
        plane[top : top + 7, left + 3] = 1.0
    elif kind == 2:
        plane[top + 3, left : left + 7] = 1.0
        plane[top : top + 7, left + 3] = 1.0
    else:
        plane[top, left : left + 7] = 1.0
        plane[top : top + 7, left] = 1.0


class Stamps(Dataset):
    def __init__(self, count, seed, tfms=()):
        g = torch.Generator().manual_seed(seed)
        self.y = (torch.rand(count, 4, generator=g) < 0.4).float()
        self.x = 0.15 * torch.randn(count, 1, 20, 20, generator=g)
        for i in range(count):
            for kind in range(4):
                if self.y[i, kind]:
                    top, left = torch.randint(0, 12, (2,), generator=g).tolist()
                    stamp(kind, self.x[i, 0], top, left)
        self.tfms = tfms

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        x = self.x[i]
        for tfm in self.tfms:
            x = tfm(x)
        return x, self.y[i]


def jitter(x):
    return x * (0.8 + 0.4 * torch.rand(())) + 0.1 * torch.randn(())


class Callback:
    def __call__(self, name):
        if hasattr(self, name):
            getattr(self, name)()


class OneCycle(Callback):
    def __init__(self, lr_max):
        self.lr_max = lr_max

    def before_fit(self):
        total = self.learn.n_epoch * len(self.learn.dls.train)
        self.sched = torch.optim.lr_scheduler.OneCycleLR(self.learn.opt, self.lr_max, total_steps=total)

    def after_batch(self):
        if self.learn.training:
            self.sched.step()


class MultiAccuracy(Callback):
    def before_validate(self):
        self.right = self.total = 0

    def after_batch(self):
        if not self.learn.training:
            hit = (self.learn.pred.sigmoid() > 0.5) == self.learn.yb.bool()
            self.right += hit.sum().item()
            self.total += hit.numel()

    def after_validate(self):
        print("epoch", self.learn.epoch, "accuracy_multi", self.right / self.total)


class Learner:
    def __init__(self, dls, model, loss_func, opt_func, lr, cbs):
        self.dls, self.model, self.loss_func, self.opt_func, self.lr, self.cbs = dls, model, loss_func, opt_func, lr, cbs
        for cb in cbs:
            cb.learn = self

    def __call__(self, name):
        for cb in self.cbs:
            cb(name)

    def one_batch(self):
        self.pred = self.model(self.xb)
        self.loss = self.loss_func(self.pred, self.yb)
        if self.training:
            self.loss.backward()
            self.opt.step()
            self.opt.zero_grad()
        self("after_batch")

    def all_batches(self, dl):
        for self.xb, self.yb in dl:
            self.one_batch()

    def fit(self, n_epoch):
        self.n_epoch, self.opt = n_epoch, self.opt_func(self.model.parameters(), lr=self.lr)
        self("before_fit")
        for self.epoch in range(n_epoch):
            self.training = True
            self.model.train()
            self.all_batches(self.dls.train)
            self("before_validate")
            self.training = False
            self.model.eval()
            with torch.no_grad():
                self.all_batches(self.dls.valid)
            self("after_validate")


torch.manual_seed(21)
train_ds, valid_ds = Stamps(900, 0, [jitter]), Stamps(200, 1)
dls = SimpleNamespace(train=DataLoader(train_ds, batch_size=32, shuffle=True), valid=DataLoader(valid_ds, batch_size=64))
body = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
                     nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveMaxPool2d(4))  # fmt: skip
head = nn.Sequential(nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, len(VOCAB)))
model = nn.Sequential(body, head)
learn = Learner(dls, model, nn.BCEWithLogitsLoss(), torch.optim.Adam, 1e-3, [OneCycle(4e-3), MultiAccuracy()])
learn.fit(6)
