"""A learner with callbacks, in the manner of fastai: mixup, one cycle, test-time augmentation."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from toydata import Digits


class Callback:
    order = 0

    def __getattr__(self, name):  # what a callback lacks is looked up in the learner
        if name == "learn":
            raise AttributeError(name)
        return getattr(self.learn, name)


class MixUp(Callback):
    order = 10

    def __init__(self, alpha=0.3):
        self.beta = torch.distributions.Beta(alpha, alpha)

    def before_batch(self):
        if not self.training:
            return
        self.weight = self.beta.sample((len(self.xb),))
        self.weight = torch.maximum(self.weight, 1 - self.weight)
        self.partner = torch.randperm(len(self.xb))
        weight = self.weight.view(-1, 1, 1, 1)
        self.learn.xb = weight * self.xb + (1 - weight) * self.xb[self.partner]

    def loss(self, preds, targets):
        own = F.cross_entropy(preds, targets, reduction="none")
        other = F.cross_entropy(preds, targets[self.partner], reduction="none")
        return (self.weight * own + (1 - self.weight) * other).mean()

    def before_loss(self):
        self.learn.current_loss = self.loss if self.training else self.loss_func


class OneCycle(Callback):
    order = 20

    def __init__(self, max_lr):
        self.max_lr = max_lr

    def before_fit(self):
        total = self.epochs * len(self.train_dl)
        self.sched = torch.optim.lr_scheduler.OneCycleLR(self.opt, self.max_lr, total_steps=total)

    def after_step(self):
        self.sched.step()


class Progress(Callback):
    order = 30

    def before_epoch(self):
        self.sums = {True: [0.0, 0], False: [0.0, 0]}
        self.right = 0

    def after_batch(self):
        size = len(self.yb)
        self.sums[self.training][0] += self.batch_loss.item() * size
        self.sums[self.training][1] += size
        if not self.training:
            self.right += (self.preds.argmax(1) == self.yb).sum().item()

    def after_epoch(self):
        train, valid = (total / count for total, count in (self.sums[True], self.sums[False]))
        print(f"{self.epoch:>3}  train_loss {train:.4f}  valid_loss {valid:.4f}  accuracy {self.right / self.sums[False][1]:.4f}")


class Learner:
    def __init__(self, train_dl, valid_dl, model, loss_func, opt_func, cbs):
        self.train_dl, self.valid_dl = train_dl, valid_dl
        self.model, self.loss_func, self.current_loss = model, loss_func, loss_func
        self.opt = opt_func(model.parameters())
        self.cbs = sorted(cbs, key=lambda cb: cb.order)
        for cb in self.cbs:
            cb.learn = self

    def __call__(self, event):
        for cb in self.cbs:
            method = getattr(type(cb), event, None)
            if method is not None:
                method(cb)

    def one_batch(self, batch):
        self.xb, self.yb = batch
        self("before_batch")
        self.preds = self.model(self.xb)
        self("before_loss")
        self.batch_loss = self.current_loss(self.preds, self.yb)
        if self.training:
            self.batch_loss.backward()
            self.opt.step()
            self("after_step")
            self.opt.zero_grad()
        self("after_batch")

    def all_batches(self, loader, training):
        self.training = training
        self.model.train(training)
        with torch.set_grad_enabled(training):
            for batch in loader:
                self.one_batch(batch)

    def fit(self, epochs):
        self.epochs = epochs
        self("before_fit")
        for self.epoch in range(epochs):
            self("before_epoch")
            self.all_batches(self.train_dl, True)
            self.all_batches(self.valid_dl, False)
            self("after_epoch")

    @torch.no_grad()
    def tta(self, loader, shifts=((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))):
        """Mean of the probabilities over small shifts of each image."""
        self.model.eval()
        probs, targets = [], []
        for xb, yb in loader:
            views = [self.model(torch.roll(xb, shift, dims=(2, 3))).softmax(1) for shift in shifts]
            probs.append(torch.stack(views).mean(0))
            targets.append(yb)
        return torch.cat(probs), torch.cat(targets)


def conv_layer(ni, nf, stride):
    return nn.Sequential(nn.Conv2d(ni, nf, 3, stride, 1, bias=False), nn.BatchNorm2d(nf), nn.ReLU())


def get_model():
    return nn.Sequential(
        conv_layer(1, 24, 1), conv_layer(24, 48, 2), conv_layer(48, 64, 1), conv_layer(64, 64, 2),
        nn.Flatten(), nn.Linear(64 * 4 * 4, 10),
    )  # fmt: skip


if __name__ == "__main__":
    torch.manual_seed(9)
    tfm = lambda image: (image.float() / 255 - 0.15) / 0.28  # noqa: E731
    train_dl = DataLoader(Digits(train=True, count=3000, transform=tfm), batch_size=64, shuffle=True, drop_last=True)
    valid_dl = DataLoader(Digits(train=False, count=500, transform=tfm), batch_size=125)
    learn = Learner(
        train_dl,
        valid_dl,
        get_model(),
        nn.CrossEntropyLoss(),
        partial(torch.optim.AdamW, weight_decay=0.01),
        [Progress(), MixUp(0.3), OneCycle(5e-3)],
    )
    learn.fit(15)
    probs, targets = learn.tta(valid_dl)
    print(f"accuracy with test-time augmentation {(probs.argmax(1) == targets).float().mean():.4f}")
