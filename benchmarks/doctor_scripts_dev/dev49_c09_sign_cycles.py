# Three rounds of a falling rate, a copy of the network at the end of each, and the mean of the three.
import copy

import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves


class SignMomentum(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.98), wd=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, wd=wd))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["avg"] = torch.zeros_like(p)
                avg, g = state["avg"], p.grad
                p.mul_(1 - group["lr"] * group["wd"])
                update = avg * b1 + g * (1 - b1)
                p.add_(update.sign(), alpha=-group["lr"])
                avg.mul_(b2).add_(g, alpha=1 - b2)


class Callback:
    def before_fit(self, learn): pass
    def after_batch(self, learn): pass
    def after_epoch(self, learn): pass


class StepSchedule(Callback):
    def __init__(self, epochs_per_cycle):
        self.epochs_per_cycle = epochs_per_cycle

    def before_fit(self, learn):
        steps = self.epochs_per_cycle * len(learn.dls[0])
        self.sched = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(learn.opt, T_0=steps)

    def after_batch(self, learn):
        if learn.training:
            self.sched.step()


class KeepCopies(Callback):
    def __init__(self, every):
        self.every, self.copies = every, []

    def after_epoch(self, learn):
        if (learn.epoch + 1) % self.every == 0:
            self.copies.append(copy.deepcopy(learn.model).eval())


class Recorder(Callback):
    def before_fit(self, learn):
        self.reset()

    def reset(self):
        self.sums = {True: [0.0, 0.0, 0], False: [0.0, 0.0, 0]}

    def after_batch(self, learn):
        sums = self.sums[learn.training]
        sums[0] += learn.loss.detach() * len(learn.yb)
        sums[1] += (learn.preds.detach().argmax(1) == learn.yb).sum()
        sums[2] += len(learn.yb)

    def after_epoch(self, learn):
        (tl, ta, tn), (vl, va, vn) = self.sums[True], self.sums[False]
        print(f"{learn.epoch:3d}  train {tl / tn:.4f} {ta / tn:.3f}   valid {vl / vn:.4f} {va / vn:.3f}")
        self.reset()


class Learner:
    def __init__(self, model, dls, loss_func, opt, cbs):
        self.model, self.dls, self.loss_func, self.opt, self.cbs = model, dls, loss_func, opt, cbs

    def __call__(self, name):
        for cb in self.cbs:
            getattr(cb, name)(self)

    def one_batch(self):
        self.preds = self.model(self.xb)
        self.loss = self.loss_func(self.preds, self.yb)
        if self.training:
            self.loss.backward()
            self.opt.step()
            self.opt.zero_grad()
        self("after_batch")

    def one_epoch(self, training):
        self.training = training
        self.model.train(training)
        with torch.set_grad_enabled(training):
            for self.xb, self.yb in self.dls[0 if training else 1]:
                self.one_batch()

    def fit(self, n_epochs):
        self("before_fit")
        for self.epoch in range(n_epochs):
            self.one_epoch(True)
            self.one_epoch(False)
            self("after_epoch")


def conv(ni, nf, ks=7, stride=2):
    return nn.Sequential(nn.Conv1d(ni, nf, ks, stride=stride, padding=ks // 2, bias=False), nn.BatchNorm1d(nf), nn.ReLU())


def get_model():
    return nn.Sequential(conv(1, 16), conv(16, 32), conv(32, 48), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(48, 4))


@torch.no_grad()
def predict(models, x):
    return torch.stack([m(x).softmax(1) for m in models]).mean(0)


if __name__ == "__main__":
    torch.manual_seed(2)
    x, y = waves(count=1000, seed=6)
    train, valid, test = [TensorDataset(x[a:b], y[a:b]) for a, b in ((0, 640), (640, 800), (800, 1000))]
    dls = DataLoader(train, batch_size=32, shuffle=True), DataLoader(valid, batch_size=80)

    cycle = 8
    model = get_model()
    keeper = KeepCopies(cycle)
    opt = SignMomentum(model.parameters(), lr=1e-3, wd=0.1)
    learn = Learner(model, dls, F.cross_entropy, opt, [StepSchedule(cycle), keeper, Recorder()])
    learn.fit(3 * cycle)

    x_test, y_test = test.tensors
    for i, m in enumerate(keeper.copies):
        print(f"copy {i}: test {(predict([m], x_test).argmax(1) == y_test).float().mean():.3f}")
    print(f"mean of all: test {(predict(keeper.copies, x_test).argmax(1) == y_test).float().mean():.3f}")
