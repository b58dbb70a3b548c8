"""A small fastai-like Learner with callbacks; imbalanced textures (four orientations)."""
import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

COUNTS = {"train": [700, 180, 100, 60], "valid": [140, 60, 50, 50]}


def make_textures(split, size=16):
    g = torch.Generator().manual_seed({"train": 3, "valid": 4}[split])
    y = torch.cat([torch.full((n,), k) for k, n in enumerate(COUNTS[split])])
    y = y[torch.randperm(len(y), generator=g)]
    n = len(y)
    angle = y * math.pi / 4 + 0.12 * torch.randn(n, generator=g)
    freq = 0.9 + 0.3 * torch.rand(n, generator=g)
    phase = 2 * math.pi * torch.rand(n, generator=g)
    v, u = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
    along = angle.cos()[:, None, None] * u + angle.sin()[:, None, None] * v
    x = torch.sin(freq[:, None, None] * along + phase[:, None, None])
    x = x + 0.4 * torch.randn(x.shape, generator=g)
    return x.unsqueeze(1), y


class DataBunch:
    def __init__(self, train_dl, valid_dl, c):
        self.train_dl, self.valid_dl, self.c = train_dl, valid_dl, c


def get_data(bs=32):
    (xt, yt), (xv, yv) = make_textures("train"), make_textures("valid")
    m, s = xt.mean(), xt.std()
    xt, xv = (xt - m) / s, (xv - m) / s
    class_weights = 1.0 / torch.bincount(yt).float()
    sample_weights = class_weights[yt]
    sampler = WeightedRandomSampler(sample_weights, num_samples=len(yt), replacement=True)
    train_dl = DataLoader(TensorDataset(xt, yt), batch_size=bs, sampler=sampler)
    valid_dl = DataLoader(TensorDataset(xv, yv), batch_size=2 * bs)
    return DataBunch(train_dl, valid_dl, len(class_weights))


class Callback:
    def __call__(self, name, learn):
        getattr(self, name, lambda learn: None)(learn)


class OneCycle(Callback):
    def __init__(self, lr_max, pct=0.3):
        self.lr_max, self.pct = lr_max, pct

    def begin_fit(self, learn):
        self.step, self.total = 0, learn.epochs * len(learn.data.train_dl)

    def begin_batch(self, learn):
        if not learn.in_train:
            return
        t = self.step / self.total
        if t < self.pct:
            f = 0.1 + 0.9 * t / self.pct
        else:
            f = 0.5 * (1 + math.cos(math.pi * (t - self.pct) / (1 - self.pct)))
        for group in learn.opt.param_groups:
            group["lr"] = self.lr_max * f
        self.step += 1


class Metrics(Callback):
    def begin_validate(self, learn):
        self.n, self.correct = 0, 0
        self.hits, self.support = torch.zeros(learn.data.c), torch.zeros(learn.data.c)

    def after_batch(self, learn):
        if learn.in_train:
            return
        right = learn.pred.argmax(dim=1) == learn.yb
        self.n += len(learn.yb)
        self.correct += right.sum().item()
        self.hits += torch.bincount(learn.yb[right], minlength=learn.data.c)
        self.support += torch.bincount(learn.yb, minlength=learn.data.c)

    def after_epoch(self, learn):
        recall = self.hits / self.support.clamp(min=1)
        print(f"epoch {learn.epoch}: accuracy {self.correct / self.n:.3f} balanced {recall.mean():.3f}")


class Learner:
    def __init__(self, data, model, loss_func, opt_func, cbs=()):
        self.data, self.model, self.loss_func, self.cbs = data, model, loss_func, list(cbs)
        self.opt = opt_func(model.parameters())

    def __call__(self, name):
        for cb in self.cbs:
            cb(name, self)

    def freeze(self):
        for p in self.model.body.parameters():
            p.requires_grad_(False)

    def unfreeze(self):
        for p in self.model.parameters():
            p.requires_grad_(True)

    def one_batch(self):
        self("begin_batch")
        self.pred = self.model(self.xb)
        self.loss = self.loss_func(self.pred, self.yb)
        if self.in_train:
            self.loss.backward()
            self.opt.step()
            self.opt.zero_grad()
        self("after_batch")

    def all_batches(self, dl):
        for self.xb, self.yb in dl:
            self.one_batch()

    def fit(self, epochs):
        self.epochs = epochs
        self("begin_fit")
        for self.epoch in range(epochs):
            self.in_train = True
            self.model.train()
            self.all_batches(self.data.train_dl)
            self.in_train = False
            self.model.eval()
            with torch.no_grad():
                self("begin_validate")
                self.all_batches(self.data.valid_dl)
            self("after_epoch")


class Net(nn.Module):
    def __init__(self, c):
        super().__init__()
        layers = []
        for ni, nf in ((1, 12), (12, 24), (24, 32)):
            layers += [nn.Conv2d(ni, nf, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(nf), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.25), nn.Linear(32, c))

    def forward(self, x):
        return self.head(self.body(x))


def main():
    torch.manual_seed(7)
    data = get_data()
    loss_func = F.cross_entropy
    opt_func = partial(torch.optim.Adam, lr=1e-3, betas=(0.9, 0.99))
    learn = Learner(data, Net(data.c), loss_func, opt_func, cbs=[OneCycle(5e-3), Metrics()])
    learn.unfreeze()
    learn.fit(8)


if __name__ == "__main__":
    main()
