"""Find the bright spot: coordinates regressed by a small convnet, with a learner and callbacks."""

import copy
import math
import operator

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SIZE = 24


def make_spots(count, seed):
    g = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(SIZE).float(), torch.arange(SIZE).float(), indexing="ij")

    def spot(center, sigma):
        cx, cy = center[:, 0, None, None], center[:, 1, None, None]
        return torch.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2))

    center = 2 + (SIZE - 5) * torch.rand(count, 2, generator=g)
    decoy = 2 + (SIZE - 5) * torch.rand(count, 2, generator=g)
    images = spot(center, 1.8) + 0.45 * spot(decoy, 1.2) + 0.1 * torch.randn(count, SIZE, SIZE, generator=g)
    points = 2 * center / (SIZE - 1) - 1  # x and y, -1 to 1
    return (images.unsqueeze(1) - 0.04) / 0.17, points


class Callback:
    order = 0

    def before_fit(self, learn): ...
    def before_epoch(self, learn): ...
    def before_batch(self, learn): ...
    def after_step(self, learn): ...
    def after_epoch(self, learn): ...
    def after_fit(self, learn): ...


class FlipPoints(Callback):
    """Every other batch mirrored, left to right."""

    def before_batch(self, learn):
        if learn.training and torch.rand(()) < 0.5:
            learn.xb = learn.xb.flip(-1)
            learn.yb = learn.yb * torch.tensor([-1.0, 1.0])


class CosineLR(Callback):
    def before_fit(self, learn):
        steps = learn.n_epoch * len(learn.train_dl)
        self.sched = torch.optim.lr_scheduler.OneCycleLR(learn.opt, max_lr=learn.lr, total_steps=steps)

    def after_step(self, learn):
        self.sched.step()


class Recorder(Callback):
    def after_epoch(self, learn):
        print(f"{learn.epoch:3d}  train_loss {learn.train_loss:.5f}  valid_loss {learn.valid_loss:.5f}  "
              f"pixel_error {learn.pixel_error:.3f}")


class SaveBest(Callback):
    order = 10

    def __init__(self, monitor="pixel_error", comp=operator.lt):
        self.monitor, self.comp = monitor, comp
        self.best = math.inf if comp is operator.lt else -math.inf

    def after_epoch(self, learn):
        value = getattr(learn, self.monitor)
        if self.comp(value, self.best):
            self.best, self.state = value, copy.deepcopy(learn.model.state_dict())

    def after_fit(self, learn):
        learn.model.load_state_dict(self.state)
        learn.all_batches(learn.valid_dl, training=False)
        print(f"best model loaded, pixel_error {learn.pixel_error:.3f}")


class Learner:
    def __init__(self, train_dl, valid_dl, model, loss_func, lr, cbs=()):
        self.train_dl, self.valid_dl, self.model = train_dl, valid_dl, model
        self.loss_func, self.lr = loss_func, lr
        self.cbs = sorted(cbs, key=lambda cb: cb.order)

    def __call__(self, name):
        for cb in self.cbs:
            getattr(cb, name)(self)

    def one_batch(self):
        self("before_batch")
        self.pred = self.model(self.xb)
        self.loss = self.loss_func(self.pred, self.yb)
        if self.training:
            self.loss.backward()
            self.opt.step()
            self.opt.zero_grad()
            self("after_step")

    def all_batches(self, dl, training):
        self.training = training
        self.model.train(training)
        total, distance, count = 0.0, 0.0, 0
        with torch.set_grad_enabled(training):
            for self.xb, self.yb in dl:
                self.one_batch()
                n = len(self.xb)
                total += self.loss.item() * n
                distance += (self.pred.detach() - self.yb).norm(dim=1).sum().item() * (SIZE - 1) / 2
                count += n
        if training:
            self.train_loss = total / count
        else:
            self.valid_loss, self.pixel_error = total / count, distance / count

    def fit(self, n_epoch):
        self.n_epoch = n_epoch
        self.opt = torch.optim.Adam(self.model.parameters(), lr=self.lr)
        self("before_fit")
        for self.epoch in range(n_epoch):
            self("before_epoch")
            self.all_batches(self.train_dl, training=True)
            self.all_batches(self.valid_dl, training=False)
            self("after_epoch")
        self("after_fit")


def conv(cin, cout):
    return [nn.Conv2d(cin, cout, 3, padding=1), nn.BatchNorm2d(cout), nn.ReLU(), nn.MaxPool2d(2)]


if __name__ == "__main__":
    torch.manual_seed(7)
    torch.set_num_threads(1)
    train_dl = DataLoader(TensorDataset(*make_spots(1500, seed=1)), batch_size=50, shuffle=True)
    valid_dl = DataLoader(TensorDataset(*make_spots(400, seed=2)), batch_size=100)
    body = nn.Sequential(*conv(1, 12), *conv(12, 24), *conv(24, 32))
    head = nn.Sequential(nn.Flatten(), nn.Linear(32 * 3 * 3, 64), nn.ReLU(), nn.Linear(64, 2))
    model = nn.Sequential(body, head)
    cbs = [FlipPoints(), CosineLR(), Recorder(), SaveBest()]
    learn = Learner(train_dl, valid_dl, model, nn.MSELoss(), lr=4e-3, cbs=cbs)
    learn.fit(20)
