"""Few labels, many images: a student learns from labels and from what a slowly following teacher is sure of."""
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


class Callback:
    def before_fit(self, learn): ...
    def after_batch(self, learn): ...
    def after_epoch(self, learn): ...


class TeacherCallback(Callback):
    def __init__(self, decay=0.97):
        self.decay = decay

    @torch.no_grad()
    def after_batch(self, learn):
        for slow, fast in zip(learn.teacher.parameters(), learn.student.parameters()):
            slow.mul_(self.decay).add_(fast, alpha=1 - self.decay)


class PrintCallback(Callback):
    def after_epoch(self, learn):
        print(
            f"{learn.epoch:>3}  supervised {learn.log['sup']:.4f}  pseudo {learn.log['unsup']:.4f}  "
            f"used {learn.log['used']:.2f}  teacher accuracy {learn.validate(learn.teacher):.4f}"
        )


def conv(ni, nf):
    return nn.Sequential(nn.Conv2d(ni, nf, 3, padding=1), nn.GroupNorm(4, nf), nn.ReLU())


def make_net():
    return nn.Sequential(
        conv(1, 16), nn.MaxPool2d(2), conv(16, 32), nn.MaxPool2d(2), conv(32, 32), nn.Flatten(), nn.Linear(512, 10)
    )


def jitter(x):
    """A pixel to either side for the batch, and a little noise for each image."""
    dy, dx = torch.randint(-1, 2, (2,)).tolist()
    return torch.roll(x, (dy, dx), dims=(2, 3)) + 0.15 * torch.randn_like(x)


class Learner:
    def __init__(self, net, labeled, unlabeled, valid, cbs, lr=2e-3, threshold=0.9, ramp=60):
        self.student, self.teacher = net, copy.deepcopy(net).requires_grad_(False)
        self.labeled, self.unlabeled, self.valid = labeled, unlabeled, valid
        self.cbs, self.threshold, self.ramp = cbs, threshold, ramp
        self.opt = torch.optim.Adam(self.student.parameters(), lr=lr)
        self.step = 0

    def callback(self, name):
        for cb in self.cbs:
            getattr(cb, name)(self)

    def labeled_forever(self):
        while True:
            yield from self.labeled

    def one_batch(self, xl, yl, xu):
        sup = F.cross_entropy(self.student(jitter(xl)), yl)
        with torch.no_grad():
            confidence, pseudo = self.teacher(xu).softmax(dim=1).max(dim=1)
        sure = confidence > self.threshold
        out = self.student(jitter(xu))
        unsup = (F.cross_entropy(out, pseudo, reduction="none") * sure).mean()
        loss = sup + min(1.0, self.step / self.ramp) * unsup
        self.opt.zero_grad()
        loss.backward()
        self.opt.step()
        self.step += 1
        return torch.stack([sup.detach(), unsup.detach(), sure.float().mean()])

    def fit(self, epochs):
        self.callback("before_fit")
        stream = self.labeled_forever()
        for self.epoch in range(epochs):
            self.student.train()
            self.teacher.eval()
            sums = torch.zeros(3)
            for (xu,) in self.unlabeled:
                xl, yl = next(stream)
                sums += self.one_batch(xl, yl, xu)
                self.callback("after_batch")
            self.log = dict(zip(("sup", "unsup", "used"), (sums / len(self.unlabeled)).tolist()))
            self.callback("after_epoch")

    @torch.no_grad()
    def validate(self, net):
        net.eval()
        right = sum((net(x).argmax(1) == y).sum() for x, y in self.valid)
        return float(right) / len(self.valid.dataset)


def normalize(images, stats):
    return (images.float() / 255 - stats[0]) / stats[1]


if __name__ == "__main__":
    torch.manual_seed(42)
    images, labels = draw_digits(1400, seed=20)
    valid_images, valid_labels = draw_digits(300, seed=21)
    scaled = images.float() / 255
    stats = scaled.mean(), scaled.std()
    x, x_valid = normalize(images, stats), normalize(valid_images, stats)

    n_labeled = 400
    labeled = DataLoader(TensorDataset(x[:n_labeled], labels[:n_labeled]), batch_size=40, shuffle=True)
    unlabeled = DataLoader(TensorDataset(x[n_labeled:]), batch_size=50, shuffle=True)
    valid = DataLoader(TensorDataset(x_valid, valid_labels), batch_size=100)

    learn = Learner(make_net(), labeled, unlabeled, valid, cbs=[TeacherCallback(), PrintCallback()])
    learn.fit(15)
    print(f"student {learn.validate(learn.student):.4f}  teacher {learn.validate(learn.teacher):.4f}")
