"""A tiny callback-based Learner (in the spirit of fastai / miniai), trained on the sklearn digits."""
import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(42)
np.random.seed(42)
EPOCHS, BS, N_ACC, LR = 15, 16, 4, 0.15


def get_dls():
    digits = load_digits()
    x, y = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1), torch.tensor(digits.target)
    tr, va = train_test_split(np.arange(len(y)), test_size=0.3, stratify=digits.target, random_state=0)
    x = (x - x[tr].mean()) / x[tr].std()
    return (DataLoader(TensorDataset(x[tr], y[tr]), batch_size=BS, shuffle=True, drop_last=True),
            DataLoader(TensorDataset(x[va], y[va]), batch_size=4 * BS))


class ResBlock(nn.Module):
    def __init__(self, ni, nf, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(ni, nf, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(nf)
        self.conv2 = nn.Conv2d(nf, nf, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(nf)
        self.pool = nn.Identity() if stride == 1 else nn.AvgPool2d(2)
        self.idconv = nn.Identity() if ni == nf else nn.Conv2d(ni, nf, 1)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.idconv(self.pool(x)))


class DigitNet(nn.Module):
    def __init__(self, n_out=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(ResBlock(16, 32, 2), ResBlock(32, 64, 2))
        self.head = nn.Linear(64, n_out)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean(dim=(2, 3)))


def init_cnn(model):
    for m in model.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
        if isinstance(m, ResBlock):
            nn.init.zeros_(m.bn2.weight)


class CancelStep(Exception):
    pass


class Callback:
    order, learn = 0, None


class Learner:
    def __init__(self, model, dls, loss_func, opt, cbs):
        self.model, self.dls, self.loss_func, self.opt = model, dls, loss_func, opt
        self.cbs = sorted(cbs, key=lambda cb: cb.order)
        for cb in self.cbs:
            cb.learn = self

    def __call__(self, event):
        for cb in self.cbs:
            getattr(cb, event, lambda: None)()

    def one_batch(self):
        self("before_batch")
        self.pred = self.model(self.xb)
        self.loss = self.loss_func(self.pred, self.yb)
        self("after_loss")
        if self.training:
            self.loss.backward()
            try:
                self("before_step")
                self.opt.step()
                self("after_step")
                self.opt.zero_grad()
            except CancelStep:
                pass
        self("after_batch")

    def one_epoch(self, training):
        self.training = training
        self("before_epoch")
        self.model.train(training)
        with torch.set_grad_enabled(training):
            for self.xb, self.yb in self.dls[0 if training else 1]:
                self.one_batch()
        self("after_epoch")

    def fit(self):
        self("before_fit")
        for self.epoch in range(EPOCHS):
            self.one_epoch(True)
            self.one_epoch(False)


class MixUp(Callback):
    order = 10

    def before_batch(self):
        if self.learn.training:
            self.lam = np.random.beta(0.3, 0.3)
            perm = torch.randperm(len(self.learn.yb))
            self.yb2 = self.learn.yb[perm]
            self.learn.xb = self.lam * self.learn.xb + (1 - self.lam) * self.learn.xb[perm]

    def after_loss(self):
        if self.learn.training:
            loss2 = self.learn.loss_func(self.learn.pred, self.yb2)
            self.learn.loss = self.lam * self.learn.loss + (1 - self.lam) * loss2


class Metrics(Callback):
    order = 20

    def before_epoch(self):
        self.loss, self.correct, self.seen = 0.0, 0, 0

    def after_loss(self):
        n = len(self.learn.yb)
        self.loss += self.learn.loss.item() * n
        self.correct += (self.learn.pred.argmax(1) == self.learn.yb).sum().item()
        self.seen += n

    def after_epoch(self):
        phase, lr = "train" if self.learn.training else "valid", self.learn.opt.param_groups[0]["lr"]
        loss, acc = self.loss / self.seen, self.correct / self.seen
        print(f"epoch {self.learn.epoch:2d} {phase} loss {loss:.4f} acc {acc:.4f} lr {lr:.4f}")


class GradientAccumulation(Callback):
    order, count = 30, 0

    def after_loss(self):
        self.learn.loss = self.learn.loss / N_ACC

    def before_step(self):
        self.count += 1
        if self.count % N_ACC != 0:
            raise CancelStep()


class WarmupCosine(Callback):
    order = 40

    def before_fit(self):
        total = EPOCHS * len(self.learn.dls[0]) // N_ACC
        warm = int(0.15 * total)

        def factor(i):
            return (i + 1) / warm if i < warm else 0.5 * (1 + math.cos(math.pi * (i - warm) / (total - warm)))

        self.sched = torch.optim.lr_scheduler.LambdaLR(self.learn.opt, factor)

    def after_step(self):
        self.sched.step()


class EMA(Callback):
    order, decay = 50, 0.96

    def before_fit(self):
        self.ema = copy.deepcopy(self.learn.model)

    @torch.no_grad()
    def after_step(self):
        for e, p in zip(self.ema.state_dict().values(), self.learn.model.state_dict().values()):
            e.copy_(self.decay * e + (1 - self.decay) * p if e.is_floating_point() else p)

    def before_epoch(self):
        if not self.learn.training:
            self.live, self.learn.model = self.learn.model, self.ema

    def after_epoch(self):
        if not self.learn.training:
            self.learn.model = self.live


if __name__ == "__main__":
    dls = get_dls()
    model = DigitNet()
    init_cnn(model)
    opt = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4)
    cbs = [MixUp(), Metrics(), GradientAccumulation(), WarmupCosine(), EMA()]
    Learner(model, dls, nn.CrossEntropyLoss(label_smoothing=0.05), opt, cbs).fit()
