"""Where is the shape, and what is it? A learner with callbacks, boxes by generalized IoU, flips at test time."""
from copy import deepcopy

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset

from toydata import Shapes


def get_ds(train):
    src = Shapes(train=train)
    return TensorDataset((torch.stack(src.images) - 0.5) * 4, torch.stack(src.boxes), torch.tensor(src.targets))


def flip_boxes(b):
    x1, y1, x2, y2 = b.unbind(-1)
    return torch.stack([1 - x2, y1, 1 - x1, y2], -1)


def overlap(a, b):
    "IoU and generalized IoU of matched boxes, each (n, 4) as x1, y1, x2, y2."
    wh = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    inter = wh.prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - inter
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    iou = inter / (union + 1e-7)
    return iou, iou - (hull - union) / (hull + 1e-7)


def conv(ni, nf, stride):
    return nn.Sequential(nn.Conv2d(ni, nf, 3, stride, 1, bias=False), nn.BatchNorm2d(nf), nn.ReLU())


class BoxNet(nn.Module):
    def __init__(self, n_names=6):
        super().__init__()
        self.body = nn.Sequential(conv(3, 16, 1), conv(16, 32, 2), conv(32, 48, 2), conv(48, 48, 1), nn.Flatten())
        self.neck = nn.Sequential(nn.Linear(48 * 16, 96), nn.ReLU())
        self.box, self.name = nn.Linear(96, 4), nn.Linear(96, n_names)

    def forward(self, x):
        h = self.neck(self.body(x))
        center, size = self.box(h).sigmoid().chunk(2, dim=1)
        return torch.cat([center - size / 2, center + size / 2], 1), self.name(h)


def box_and_name_loss(preds, boxes, names):
    pb, logits = preds
    _, giou = overlap(pb, boxes)
    return (1 - giou).mean() + 2 * F.l1_loss(pb, boxes) + 0.5 * F.cross_entropy(logits, names)


class FlipAug:
    def before_batch(self):
        l = self.learn
        if l.training:
            sel = torch.rand(len(l.xb)) < 0.5
            l.xb[sel] = l.xb[sel].flip(-1)
            l.boxes[sel] = flip_boxes(l.boxes[sel])


class Recorder:
    def before_fit(self):
        self.log, self.train, self.valid = [], [], []

    def after_batch(self):
        l, n = self.learn, len(self.learn.xb)
        if l.training:
            self.train.append((n, l.loss.item() * n))
        else:
            iou = overlap(l.preds[0], l.boxes)[0].sum().item()
            right = (l.preds[1].argmax(1) == l.names).sum().item()
            self.valid.append((n, l.loss.item() * n, iou, right))

    def after_epoch(self):
        (tn, tl), (vn, vl, iou, right) = (map(sum, zip(*rows)) for rows in (self.train, self.valid))
        self.log.append(iou / vn)
        print(
            f"{self.learn.epoch:3d}  train_loss {tl / tn:.3f}  valid_loss {vl / vn:.3f}  "
            f"iou {iou / vn:.3f}  acc {right / vn:.3f}"
        )
        self.train, self.valid = [], []


class KeepBest:
    def before_fit(self):
        self.best, self.state = float("-inf"), None

    def after_epoch(self):
        value = self.learn.recorder.log[-1]
        if value > self.best:
            self.best, self.state = value, deepcopy(self.learn.model.state_dict())

    def after_fit(self):
        self.learn.model.load_state_dict(self.state)


class Learner:
    def __init__(self, train_dl, valid_dl, model, loss_func, lr=4e-3, cbs=()):
        self.train_dl, self.valid_dl, self.model, self.loss_func, self.lr = train_dl, valid_dl, model, loss_func, lr
        self.opt = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-2)
        self.recorder = Recorder()
        self.cbs = [self.recorder, *cbs]
        for cb in self.cbs:
            cb.learn = self

    def __call__(self, event):
        for cb in self.cbs:
            getattr(cb, event, lambda: None)()

    def one_pass(self, training):
        self.training = training
        self.model.train(training)
        with torch.set_grad_enabled(training):
            for self.xb, self.boxes, self.names in self.train_dl if training else self.valid_dl:
                self("before_batch")
                self.preds = self.model(self.xb)
                self.loss = self.loss_func(self.preds, self.boxes, self.names)
                if training:
                    self.loss.backward()
                    self.opt.step()
                    self.sched.step()
                    self.opt.zero_grad()
                self("after_batch")

    def fit(self, n_epoch):
        steps = n_epoch * len(self.train_dl)
        self.sched = torch.optim.lr_scheduler.OneCycleLR(self.opt, max_lr=self.lr, total_steps=steps)
        self("before_fit")
        for self.epoch in range(n_epoch):
            self.one_pass(True)
            self.one_pass(False)
            self("after_epoch")
        self("after_fit")


@torch.no_grad()
def tta(model, dl):
    "Mean of what the network says of an image and of its mirror image, turned back."
    model.eval()
    ious, right = [], 0
    for xb, boxes, names in dl:
        (b0, n0), (b1, n1) = model(xb), model(xb.flip(-1))
        ious.append(overlap((b0 + flip_boxes(b1)) / 2, boxes)[0])
        right += ((n0.softmax(1) + n1.softmax(1)).argmax(1) == names).sum().item()
    return torch.cat(ious).mean().item(), right / len(dl.dataset)


if __name__ == "__main__":
    torch.manual_seed(3)
    train_ds, held_out = get_ds(train=True), get_ds(train=False)
    valid_ds, test_ds = Subset(held_out, range(120)), Subset(held_out, range(120, 240))
    train_dl, valid_dl = DataLoader(train_ds, batch_size=50, shuffle=True), DataLoader(valid_ds, batch_size=60)
    learn = Learner(train_dl, valid_dl, BoxNet(), box_and_name_loss, cbs=[FlipAug(), KeepBest()])
    learn.fit(12)
    iou, acc = tta(learn.model, DataLoader(test_ds, batch_size=60))
    print(f"test, with mirrored copies: mean IoU {iou:.3f}, names {acc:.3f}")
