"""A tiny Learner with callbacks: pretrain on the digits 0 to 5, fine-tune on few images of 6 to 9 (freeze, unfreeze)."""
import copy
import os
import tempfile

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


def digits_of(classes, count, seed, noise):
    x, y = draw_digits(count, seed=seed, noise=noise)
    x = (x.float() / 255 - 0.25) / 0.35
    return [x[y == c] for c in classes]


def as_dataset(groups):
    ys = torch.cat([torch.full((len(group),), i) for i, group in enumerate(groups)])
    return TensorDataset(torch.cat(groups), ys)


class DataLoaders:
    def __init__(self, train_ds, valid_ds, bs):
        self.train = DataLoader(train_ds, bs, shuffle=True, drop_last=True)
        self.valid = DataLoader(valid_ds, bs * 2, shuffle=False)


def conv_layer(ni, nf):
    return nn.Sequential(nn.Conv2d(ni, nf, 3, padding=1, bias=False), nn.BatchNorm2d(nf), nn.ReLU())


class Net(nn.Module):
    def __init__(self, n_out):
        super().__init__()
        blocks = conv_layer(1, 16), nn.MaxPool2d(2), conv_layer(16, 32), nn.MaxPool2d(2), conv_layer(32, 64)
        self.body = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(64 * 4 * 4, 48), nn.ReLU(), nn.Dropout(0.25), nn.Linear(48, n_out)
        )

    def forward(self, x):
        return self.head(self.body(x))


class Callback:
    def before_epoch(self): ...
    def before_batch(self): ...
    def after_batch(self): ...
    def after_epoch(self): ...


class Recorder(Callback):
    def before_epoch(self):
        self.loss, self.right, self.seen = 0.0, 0, 0

    def after_batch(self):
        if not self.learn.training:
            self.loss += self.learn.loss.item() * len(self.learn.yb)
            self.right += (self.learn.pred.argmax(dim=1) == self.learn.yb).sum().item()
            self.seen += len(self.learn.yb)

    def after_epoch(self):
        self.learn.valid_loss = self.loss / self.seen
        print(f"{self.learn.epoch}  valid_loss {self.learn.valid_loss:.4f}  accuracy {self.right / self.seen:.4f}")


class SaveBest(Callback):
    best, weights = float("inf"), None

    def after_epoch(self):
        if self.learn.valid_loss < self.best:
            self.best, self.weights = self.learn.valid_loss, copy.deepcopy(self.learn.model.state_dict())


class MixUp(Callback):
    beta = torch.distributions.Beta(0.4, 0.4)

    def before_batch(self):
        learn = self.learn
        if not learn.training:
            return
        lam = self.beta.sample().item()
        lam = max(lam, 1 - lam)
        perm = torch.randperm(len(learn.xb))
        hot = F.one_hot(learn.yb, learn.model.head[-1].out_features).float()
        learn.xb = lam * learn.xb + (1 - lam) * learn.xb[perm]
        learn.yb = lam * hot + (1 - lam) * hot[perm]


class Learner:
    def __init__(self, dls, model, cbs):
        self.dls, self.model, self.cbs = dls, model, cbs
        for cb in cbs:
            cb.learn = self

    def __call__(self, event):
        [getattr(cb, event)() for cb in self.cbs]

    def one_batch(self):
        self("before_batch")
        self.pred = self.model(self.xb)
        self.loss = F.cross_entropy(self.pred, self.yb)
        if self.training:
            self.loss.backward()
            self.opt.step()
            self.opt.zero_grad()
            self.sched.step()
        self("after_batch")

    def all_batches(self, training):
        self.training = training
        self.model.train(training)
        with torch.set_grad_enabled(training):
            for self.xb, self.yb in self.dls.train if training else self.dls.valid:
                self.one_batch()

    def fit_one_cycle(self, epochs, lrs):
        parts = [[p for p in part.parameters() if p.requires_grad] for part in (self.model.body, self.model.head)]
        groups = [{"params": params, "lr": lr} for params, lr in zip(parts, lrs) if params]
        self.opt = torch.optim.AdamW(groups, weight_decay=0.01)
        max_lrs = [group["lr"] for group in groups]
        self.sched = OneCycleLR(self.opt, max_lrs, total_steps=epochs * len(self.dls.train))
        for self.epoch in range(epochs):
            self("before_epoch")
            self.all_batches(training=True)
            self.all_batches(training=False)
            self("after_epoch")


if __name__ == "__main__":
    torch.manual_seed(7)
    weights = os.path.join(tempfile.mkdtemp(), "source.pth")
    source = digits_of(range(6), 1600, seed=20, noise=0.1)
    dls = DataLoaders(as_dataset([g[:120] for g in source]), as_dataset([g[120:] for g in source]), bs=40)
    source_net = Net(n_out=6)
    Learner(dls, source_net, [Recorder()]).fit_one_cycle(5, (4e-3, 4e-3))
    torch.save(source_net.state_dict(), weights)

    target = digits_of(range(6, 10), 1200, seed=21, noise=0.25)
    dls = DataLoaders(as_dataset([g[:45] for g in target]), as_dataset([g[45:90] for g in target]), bs=20)
    net = Net(n_out=4)
    state = torch.load(weights, weights_only=True)
    state = {name.removeprefix("body."): value for name, value in state.items() if name.startswith("body.")}
    net.body.load_state_dict(state)

    learn = Learner(dls, net, [MixUp(), Recorder(), saver := SaveBest()])
    net.body.requires_grad_(False)
    learn.fit_one_cycle(6, (3e-3, 3e-3))
    net.body.requires_grad_(True)
    learn.fit_one_cycle(10, (3e-4, 2e-3))

    net.load_state_dict(saver.weights)
    net.eval()
    xs, ys = as_dataset(digits_of(range(6, 10), 600, seed=22, noise=0.25)).tensors
    with torch.no_grad():
        print(f"test accuracy {(net(xs).argmax(dim=1) == ys).float().mean():.4f}")
