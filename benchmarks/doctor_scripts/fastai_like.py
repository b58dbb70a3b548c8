import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader
from toydata import Shapes


class DataLoaders:
    def __init__(self, train, valid):
        self.train, self.valid = train, valid


class Learner:
    def __init__(self, dls, model, loss_func, opt_func=torch.optim.AdamW, metrics=()):
        self.dls, self.model, self.loss_func, self.opt_func, self.metrics = dls, model, loss_func, opt_func, metrics

    def one_batch(self, batch, training):
        self.xb, self.yb = batch
        self.preds = self.model(self.xb)
        self.loss = self.loss_func(self.preds, self.yb)
        if training:
            self.loss.backward()
            self.opt.step()
            self.sched.step()
            self.opt.zero_grad()

    def one_epoch(self, training):
        self.model.train(training)
        dl = self.dls.train if training else self.dls.valid
        total, n, values = 0.0, 0, [0.0] * len(self.metrics)
        with torch.set_grad_enabled(training):
            for batch in dl:
                self.one_batch(batch, training)
                size = len(self.xb)
                total, n = total + self.loss.item() * size, n + size
                values = [v + m(self.preds, self.yb).item() * size for v, m in zip(values, self.metrics)]
        return [total / n] + [v / n for v in values]

    def fit_one_cycle(self, n_epoch, lr_max):
        self.opt = self.opt_func(self.model.parameters(), lr=lr_max)
        self.sched = torch.optim.lr_scheduler.OneCycleLR(
            self.opt, max_lr=lr_max, total_steps=n_epoch * len(self.dls.train)
        )
        for epoch in range(n_epoch):
            train_loss, valid = self.one_epoch(True)[0], self.one_epoch(False)
            print(epoch, f"{train_loss:.4f}", *(f"{v:.4f}" for v in valid))


def accuracy(inp, targ):
    return (inp.argmax(dim=-1) == targ).float().mean()


def conv(ni, nf, stride=2):
    return nn.Sequential(nn.Conv2d(ni, nf, 3, stride, 1, bias=False), nn.BatchNorm2d(nf), nn.ReLU())


torch.manual_seed(3)
dls = DataLoaders(
    DataLoader(Shapes(train=True), batch_size=32, shuffle=True, drop_last=True),
    DataLoader(Shapes(train=False), batch_size=64),
)
model = nn.Sequential(
    conv(3, 16, 1), conv(16, 32), conv(32, 48), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 6)
)
learn = Learner(dls, model, F.cross_entropy, metrics=[accuracy])
learn.fit_one_cycle(5, 1e-2)
