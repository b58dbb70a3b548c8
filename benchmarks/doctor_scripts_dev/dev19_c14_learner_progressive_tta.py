"""A fastai-like Learner with callbacks: progressive resizing 16 -> 24 -> 32, one-cycle, test-time augmentation."""

from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import NAMES, Shapes


class Callback:
    order = 0

    def __getattr__(self, name):
        if name.startswith(("before_", "after_")):
            return lambda: None
        if name == "learn" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.learn, name)


class DataLoaders:
    def __init__(self, train, valid):
        self.train, self.valid = train, valid


class Learner:
    def __init__(self, dls, model, loss_func, opt_func, cbs=()):
        self.dls, self.model, self.loss_func, self.opt_func = dls, model, loss_func, opt_func
        self.cbs = sorted(cbs, key=lambda cb: cb.order)
        for cb in self.cbs:
            cb.learn = self

    def __call__(self, name):
        for cb in self.cbs:
            getattr(cb, name)()

    def one_batch(self):
        self("before_batch")
        self.pred = self.model(self.xb)
        self.loss = self.loss_func(self.pred, self.yb)
        if self.training:
            self.loss.backward()
            self("after_backward")
            self.opt.step()
            self("after_step")
            self.opt.zero_grad()
        self("after_batch")

    def all_batches(self, training):
        self.training = training
        self.model.train(training)
        self("before_train" if training else "before_validate")
        with torch.set_grad_enabled(training):
            for self.xb, self.yb in self.dls.train if training else self.dls.valid:
                self.one_batch()
        self("after_train" if training else "after_validate")

    def fit(self, n_epoch, lr, cbs=()):
        extra = list(cbs)
        for cb in extra:
            cb.learn = self
        self.cbs += extra
        self.n_epoch, self.lr = n_epoch, lr
        self.opt = self.opt_func(self.model.parameters(), lr=lr)
        self("before_fit")
        for self.epoch in range(n_epoch):
            self.all_batches(training=True)
            self.all_batches(training=False)
            self("after_epoch")
        self.cbs = [cb for cb in self.cbs if cb not in extra]

    def fit_one_cycle(self, n_epoch, lr):
        self.fit(n_epoch, lr, cbs=[OneCycle()])

    @torch.no_grad()
    def tta(self, size):
        """Mean of the probabilities of the four mirrored views: all shapes look the same mirrored."""
        self.model.eval()
        probs, targets = [], []
        for x, y in self.dls.valid:
            x = resize(x, size)
            views = [x, x.flip(-1), x.flip(-2), x.flip(-1).flip(-2)]
            probs.append(torch.stack([self.model(v).softmax(1) for v in views]).mean(0))
            targets.append(y)
        return torch.cat(probs), torch.cat(targets)


def resize(x, size):
    return x if x.shape[-1] == size else F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False, antialias=True)


class Resize(Callback):
    order = -10

    def __init__(self, size):
        self.size = size

    def before_batch(self):
        self.learn.xb = resize(self.learn.xb, self.size)


class Flip(Callback):
    order = -5

    def before_batch(self):
        if self.learn.training and torch.rand(()) < 0.5:
            self.learn.xb = self.learn.xb.flip(-1)


class OneCycle(Callback):
    def before_fit(self):
        total = self.learn.n_epoch * len(self.learn.dls.train)
        self.sched = torch.optim.lr_scheduler.OneCycleLR(self.learn.opt, self.learn.lr, total_steps=total, pct_start=0.3)

    def after_step(self):
        self.sched.step()


class Recorder(Callback):
    order = 10

    def before_train(self):
        self.loss_sum = self.n = 0

    def before_validate(self):
        self.train_loss = self.loss_sum / self.n
        self.loss_sum = self.n = self.correct = 0

    def after_batch(self):
        learn, bs = self.learn, len(self.learn.yb)
        self.loss_sum, self.n = self.loss_sum + learn.loss.item() * bs, self.n + bs
        if not learn.training:
            self.correct += (learn.pred.argmax(1) == learn.yb).sum().item()

    def after_epoch(self):
        print(f"{self.learn.epoch:3d}  train_loss {self.train_loss:.4f}  valid_loss {self.loss_sum / self.n:.4f}  accuracy {self.correct / self.n:.4f}")


def conv_layer(ni, nf, stride=1):
    return nn.Sequential(nn.Conv2d(ni, nf, 3, stride, 1, bias=False), nn.BatchNorm2d(nf), nn.Mish())


def build_model():
    model = nn.Sequential(
        conv_layer(3, 12), conv_layer(12, 24, 2), conv_layer(24, 24), conv_layer(24, 48, 2), conv_layer(48, 48),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(48, len(NAMES)),
    )  # fmt: skip
    for m in model.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight)
    return model


def get_dls(bs=64):
    train, valid = Shapes(True, 1400, size=32), Shapes(False, 400, size=32)
    tx, vx = torch.stack(train.images), torch.stack(valid.images)
    mean, std = tx.mean((0, 2, 3), keepdim=True), tx.std((0, 2, 3), keepdim=True)
    pack = lambda x, t: TensorDataset((x - mean) / std, torch.tensor(t))
    return DataLoaders(
        DataLoader(pack(tx, train.targets), bs, shuffle=True, drop_last=True), DataLoader(pack(vx, valid.targets), 2 * bs)
    )


if __name__ == "__main__":
    torch.manual_seed(9)
    resizer = Resize(16)
    learn = Learner(
        get_dls(), build_model(), nn.CrossEntropyLoss(label_smoothing=0.05), partial(torch.optim.AdamW, weight_decay=0.01), cbs=[resizer, Flip(), Recorder()]
    )
    for size, epochs, lr in [(16, 10, 4e-3), (24, 7, 3e-3), (32, 5, 2e-3)]:
        print(f"--- {size}x{size}")
        resizer.size = size
        learn.fit_one_cycle(epochs, lr)
    probs, targets = learn.tta(32)
    print(f"TTA accuracy {(probs.argmax(1) == targets).float().mean():.4f}")
