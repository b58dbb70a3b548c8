# A tiny Learner with callbacks; the task: where is the shape, and what is it?
import copy
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes


class BoxData(Dataset):
    def __init__(self, train, flip=0.0):
        self.items, self.flip = Shapes(train=train), flip

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        img, cat = self.items[i]
        box = self.items.boxes[i]
        if random.random() < self.flip:
            img = img.flip(2)
            x0, y0, x1, y1 = box
            box = torch.stack([1 - x1, y0, 1 - x0, y1])
        return (img - 0.5) / 0.2, box, cat


class BoxNet(nn.Module):
    def __init__(self, n_cat):
        super().__init__()

        def conv(ni, nf, stride=1):
            return nn.Sequential(nn.Conv2d(ni, nf, 3, stride, 1, bias=False), nn.BatchNorm2d(nf), nn.ReLU())

        self.body = nn.Sequential(conv(3, 24), conv(24, 32, 2), conv(32, 48), conv(48, 64, 2))
        self.neck = nn.Sequential(nn.Flatten(), nn.Linear(64 * 16, 96), nn.ReLU())
        self.box, self.cat = nn.Linear(96, 4), nn.Linear(96, n_cat)

    def forward(self, x):
        x = self.neck(self.body(x))
        return self.box(x).sigmoid(), self.cat(x)


def box_loss(preds, boxes, cats):
    return 8 * F.smooth_l1_loss(preds[0], boxes, beta=0.1) + F.cross_entropy(preds[1], cats)


def iou(a, b):
    wh = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    inter = wh.prod(1)
    area = lambda t: (t[:, 2:] - t[:, :2]).clamp(min=0).prod(1)
    return inter / (area(a) + area(b) - inter)


class Callback:
    def before_fit(self, learn): pass
    def before_batch(self, learn): pass
    def after_step(self, learn): pass
    def before_validate(self, learn): pass
    def after_validate(self, learn): pass


class EMACallback(Callback):
    """Validation uses an average of the weights."""

    def __init__(self, decay=0.97):
        self.decay = decay

    def before_fit(self, learn):
        self.shadow, self.count = copy.deepcopy(learn.model), 0

    @torch.no_grad()
    def after_step(self, learn):
        self.count += 1
        d = min(self.decay, (1 + self.count) / (10 + self.count))
        for s, p in zip(self.shadow.parameters(), learn.model.parameters()):
            s.lerp_(p, 1 - d)
        for s, b in zip(self.shadow.buffers(), learn.model.buffers()):
            s.copy_(b)

    def before_validate(self, learn):
        self.live, learn.model = learn.model, self.shadow

    def after_validate(self, learn):
        learn.model = self.live


class Learner:
    def __init__(self, train_dl, valid_dl, model, loss_func, cbs=()):
        self.train_dl, self.valid_dl, self.model, self.loss_func, self.cbs = train_dl, valid_dl, model, loss_func, cbs

    def __call__(self, name):
        for cb in self.cbs:
            getattr(cb, name)(self)

    def fit_one_cycle(self, n_epoch, lr):
        self.opt = torch.optim.AdamW(self.model.parameters(), lr=lr, weight_decay=0.01)
        sched = torch.optim.lr_scheduler.OneCycleLR(self.opt, lr, total_steps=n_epoch * len(self.train_dl))
        self("before_fit")
        for self.epoch in range(n_epoch):
            self.model.train()
            total, n = torch.zeros(()), 0
            for self.img, self.boxes, self.cats in self.train_dl:
                self("before_batch")
                loss = self.loss_func(self.model(self.img), self.boxes, self.cats)
                loss.backward()
                self.opt.step()
                self.opt.zero_grad()
                sched.step()
                self("after_step")
                total += loss.detach() * len(self.img)
                n += len(self.img)
            self("before_validate")
            valid = self.validate()
            self("after_validate")
            print(f"{self.epoch:3d}  train {total.item() / n:.4f}  valid {valid[0]:.4f}  iou {valid[1]:.3f}  acc {valid[2]:.3f}")

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        sums, n = torch.zeros(3), 0
        for img, boxes, cats in self.valid_dl:
            preds = self.model(img)
            sums[0] += self.loss_func(preds, boxes, cats) * len(img)
            sums[1] += iou(preds[0], boxes).sum()
            sums[2] += (preds[1].argmax(1) == cats).sum()
            n += len(img)
        return (sums / n).tolist()


if __name__ == "__main__":
    random.seed(4)
    torch.manual_seed(4)
    train_dl = DataLoader(BoxData(True, flip=0.5), batch_size=30, shuffle=True)
    valid_dl = DataLoader(BoxData(False), batch_size=60)
    learn = Learner(train_dl, valid_dl, BoxNet(len(NAMES)), box_loss, cbs=[EMACallback()])
    learn.fit_one_cycle(9, 4e-3)
