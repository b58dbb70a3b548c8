"""A Learner with callbacks and cancel exceptions, one-cycle with momentum, mixup as a callback."""
from functools import partial
from operator import attrgetter
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.utils.data import DataLoader

from toydata import Digits

class CancelFitException(Exception): pass
class CancelBatchException(Exception): pass

class Callback: order = 0

class Learner:
    def __init__(self, model, dls, loss_func, lr, cbs, opt_func=optim.SGD):
        self.model, self.dls, self.loss_func, self.lr, self.cbs, self.opt_func = model, dls, loss_func, lr, cbs, opt_func

    def callback(self, nm):
        for cb in sorted(self.cbs, key=attrgetter('order')):
            if (m := getattr(cb, nm, None)) is not None: m(self)

    def one_batch(self):
        self.preds = self.model(self.batch[0])
        self.callback('after_predict')
        self.loss = self.loss_func(self.preds, self.batch[1])
        if self.model.training:
            self.loss.backward()
            self.opt.step()
            self.opt.zero_grad()
            self.callback('after_step')

    def one_epoch(self, train):
        self.model.train(train)
        self.dl = self.dls.train if train else self.dls.valid
        self.callback('before_epoch')
        for self.num, self.batch in enumerate(self.dl):
            try:
                self.callback('before_batch')
                self.one_batch()
                self.callback('after_batch')
            except CancelBatchException: pass
        self.callback('after_epoch')

    def fit(self, n_epochs):
        self.n_epochs, self.epochs = n_epochs, range(n_epochs)
        self.opt = self.opt_func(self.model.parameters(), self.lr)
        try:
            self.callback('before_fit')
            for self.epoch in self.epochs:
                self.one_epoch(True)
                with torch.no_grad(): self.one_epoch(False)
            self.callback('after_fit')
        except CancelFitException: pass

class MetricsCB(Callback):
    order = 5
    def before_epoch(self, learn): self.n, self.l, self.a = 0, 0., 0.
    def after_batch(self, learn):
        b = len(learn.batch[0])
        self.n += b
        self.l += learn.loss.item() * b
        y = learn.batch[1]
        y = y if y.ndim == 1 else y.argmax(1)
        self.a += (learn.preds.argmax(1) == y).sum().item()
    def after_epoch(self, learn):
        print({'epoch': learn.epoch, 'train': learn.model.training, 'loss': f'{self.l/self.n:.3f}', 'accuracy': f'{self.a/self.n:.3f}'})

class MixupCB(Callback):
    order = 1
    def before_fit(self, learn): self.beta = torch.distributions.Beta(0.4, 0.4)
    def before_batch(self, learn):
        if not learn.model.training: return
        xb, yb = learn.batch
        lam = self.beta.sample((len(xb),))
        lam = torch.stack([lam, 1 - lam], 1).max(1)[0]
        idx = torch.randperm(len(xb))
        oh = F.one_hot(yb, 10).float()
        l4, l2 = lam[:, None, None, None], lam[:, None]
        learn.batch = (xb * l4 + xb[idx] * (1 - l4), oh * l2 + oh[idx] * (1 - l2))

class SchedCB(Callback):
    def before_fit(self, learn):
        self.s = optim.lr_scheduler.OneCycleLR(learn.opt, learn.lr, total_steps=learn.n_epochs * len(learn.dls.train))
    def after_step(self, learn): self.s.step()

act = partial(nn.LeakyReLU, 0.1)
def conv(ni, nf, stride=2, a=True):
    layers = [nn.Conv2d(ni, nf, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(nf)]
    return nn.Sequential(*layers, act()) if a else nn.Sequential(*layers)

class ResBlock(nn.Module):
    def __init__(self, ni, nf):
        super().__init__()
        self.convs, self.idconv = nn.Sequential(conv(ni, nf, 1), conv(nf, nf, 2, a=False)), nn.Conv2d(ni, nf, 1)
        nn.init.zeros_(self.convs[-1][-1].weight)
    def forward(self, x): return F.leaky_relu(self.convs(x) + self.idconv(F.avg_pool2d(x, 2)), 0.1)

torch.manual_seed(42)
tfm = lambda t: t.float().div_(255).sub_(0.17).div_(0.3)
dls = SimpleNamespace(train=DataLoader(Digits(True, transform=tfm), 48, shuffle=True), valid=DataLoader(Digits(False, transform=tfm), 100))
model = nn.Sequential(conv(1, 8, 1), ResBlock(8, 16), ResBlock(16, 32), ResBlock(32, 48), nn.Flatten(), nn.Linear(48 * 4, 10), nn.BatchNorm1d(10))
learn = Learner(model, dls, F.cross_entropy, 1e-2, [MetricsCB(), MixupCB(), SchedCB()], opt_func=optim.AdamW)
learn.fit(6)
