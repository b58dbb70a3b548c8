"""A little learner with callbacks: mixup on the way in, weights averaged at the end, flips averaged at test time."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader

from toydata import Shapes


class Callback:
    def begin_fit(self, learn): ...
    def begin_batch(self, learn): ...
    def after_step(self, learn): ...
    def after_epoch(self, learn): ...


class Mixup(Callback):
    def __init__(self, alpha=0.2):
        self.beta = torch.distributions.Beta(alpha, alpha)

    def begin_batch(self, learn):
        lam = self.beta.sample()
        lam = torch.maximum(lam, 1 - lam)
        order = torch.randperm(len(learn.xb))
        soft = F.one_hot(learn.yb, 6).float()
        learn.xb = lam * learn.xb + (1 - lam) * learn.xb[order]
        learn.yb = lam * soft + (1 - lam) * soft[order]


class SWA(Callback):
    def __init__(self, start):
        self.start = start

    def begin_fit(self, learn):
        self.average = AveragedModel(learn.model)

    def after_epoch(self, learn):
        if learn.epoch >= self.start:
            self.average.update_parameters(learn.model)


class WarmupThenFlat(Callback):
    def __init__(self, lr, steps):
        self.lr, self.steps, self.done = lr, steps, 0

    def begin_batch(self, learn):
        for group in learn.opt.param_groups:
            group["lr"] = self.lr * min(1.0, (self.done + 1) / self.steps)

    def after_step(self, learn):
        self.done += 1


class Learner:
    def __init__(self, model, train_dl, valid_dl, opt, cbs):
        self.model, self.train_dl, self.valid_dl, self.opt, self.cbs = model, train_dl, valid_dl, opt, cbs

    def __call__(self, name):
        for cb in self.cbs:
            getattr(cb, name)(self)

    def fit(self, epochs):
        self("begin_fit")
        for self.epoch in range(epochs):
            self.model.train()
            total = count = 0
            for self.xb, self.yb in self.train_dl:
                self("begin_batch")
                self.loss = F.cross_entropy(self.model(self.xb), self.yb)
                self.loss.backward()
                self.opt.step()
                self.opt.zero_grad()
                self("after_step")
                total, count = total + self.loss.item() * len(self.xb), count + len(self.xb)
            loss, accuracy = validate(self.model, self.valid_dl)
            print(f"{self.epoch:3d}  mixed train {total / count:.4f}  valid {loss:.4f}  accuracy {accuracy:.4f}")
            self("after_epoch")


@torch.no_grad()
def validate(model, dl, flips=False):
    model.eval()
    loss = right = n = 0
    for x, y in dl:
        views = [x, x.flip(-1), x.flip(-2), x.flip(-1, -2)] if flips else [x]
        logp = torch.stack([model(view).log_softmax(1) for view in views])
        logp = logp.logsumexp(0) - torch.tensor(float(len(views))).log()
        loss += F.nll_loss(logp, y, reduction="sum").item()
        right += (logp.argmax(1) == y).sum().item()
        n += len(y)
    return loss / n, right / n


def main():
    torch.manual_seed(2)
    normalize = lambda image: (image - 0.48) / 0.16
    train_dl = DataLoader(Shapes(train=True, count=1500, transform=normalize), batch_size=32, shuffle=True)
    valid_dl = DataLoader(Shapes(train=False, transform=normalize), batch_size=80)
    widths = (3, 16, 32, 64)
    body = [layer for cin, cout in zip(widths, widths[1:]) for layer in
            (nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(), nn.MaxPool2d(2))]
    model = nn.Sequential(*body, nn.Flatten(), nn.Linear(64 * 4, 6))
    opt = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    swa = SWA(start=15)
    Learner(model, train_dl, valid_dl, opt, [Mixup(0.2), WarmupThenFlat(0.02, 30), swa]).fit(20)

    update_bn(train_dl, swa.average)
    print("averaged weights: valid %.4f, accuracy %.4f" % validate(swa.average, valid_dl))
    print("with flips:       valid %.4f, accuracy %.4f" % validate(swa.average, valid_dl, flips=True))


if __name__ == "__main__":
    main()
