"""One turned rectangle per picture: what it is, where it lies and which way it points. A small learner with callbacks."""
import math
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

KINDS = ["filled", "outline", "striped"]
SIZE = 32


def render(kind, cx, cy, half_long, half_short, theta, rng):
    yy, xx = np.mgrid[:SIZE, :SIZE]
    u = (xx - cx) * math.cos(theta) + (yy - cy) * math.sin(theta)
    v = -(xx - cx) * math.sin(theta) + (yy - cy) * math.cos(theta)
    inside = (np.abs(u) <= half_long) & (np.abs(v) <= half_short)
    if KINDS[kind] == "outline":
        inside &= (np.abs(u) >= half_long - 1.3) | (np.abs(v) >= half_short - 1.3)
    elif KINDS[kind] == "striped":
        inside &= np.floor(u / 2).astype(int) % 2 == 0
    return inside * rng.uniform(0.7, 1.0) + rng.normal(0, 0.08, (SIZE, SIZE))


class TurnedBoxes(Dataset):
    def __init__(self, n, seed, flip=False):
        rng = np.random.default_rng(seed)
        self.flip, self.items = flip, []
        for _ in range(n):
            kind, theta = int(rng.integers(3)), rng.uniform(0, math.pi)
            cx, cy = rng.uniform(10, SIZE - 11, size=2)
            half_long, half_short = rng.uniform(6, 8.5), rng.uniform(3, 4)
            image = render(kind, cx, cy, half_long, half_short, theta, rng)
            box = [cx / (SIZE - 1), cy / (SIZE - 1), 2 * half_long / SIZE, 2 * half_short / SIZE]
            angle = [math.sin(2 * theta), math.cos(2 * theta)]
            image = torch.from_numpy((image - 0.1) / 0.3).float()[None]
            self.items.append((image, kind, torch.tensor(box).float(), torch.tensor(angle).float()))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        image, kind, box, angle = self.items[i]
        if self.flip and torch.rand(()) < 0.5:
            image = image.flip(-1)
            box = torch.stack([1 - box[0], box[1], box[2], box[3]])
            angle = torch.stack([-angle[0], angle[1]])
        return image, {"kind": kind, "box": box, "angle": angle}


def conv_layer(ni, nf, stride=2):
    return nn.Sequential(nn.Conv2d(ni, nf, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(nf), nn.ReLU())


class MultiHead(nn.Module):
    def __init__(self, nfs=(12, 24, 48, 64)):
        super().__init__()
        self.stem = conv_layer(1, nfs[0], stride=1)
        self.blocks = nn.ModuleList([conv_layer(ni, nf) for ni, nf in zip(nfs[:-1], nfs[1:])])
        self.neck = nn.Sequential(nn.Flatten(), nn.Linear(nfs[-1] * 4 * 4, 96), nn.ReLU())
        self.kind, self.box, self.angle = nn.Linear(96, len(KINDS)), nn.Linear(96, 4), nn.Linear(96, 2)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = self.neck(x)
        return self.kind(x), self.box(x), self.angle(x)


def joint_loss(preds, targ):
    kind, box, angle = preds
    what = F.cross_entropy(kind, targ["kind"])
    where = F.smooth_l1_loss(box, targ["box"], beta=0.1)
    turn = F.mse_loss(angle, targ["angle"])
    return what + 4 * where + turn


# Metrics give sums over a batch; the learner divides them.
def hits(preds, targ):
    return (preds[0].argmax(dim=1) == targ["kind"]).sum().item()


def center_px(preds, targ):
    return ((preds[1][:, :2] - targ["box"][:, :2]) * (SIZE - 1)).norm(dim=1).sum().item()


def angle_deg(preds, targ):
    double = torch.atan2(preds[2][:, 0], preds[2][:, 1]) - torch.atan2(targ["angle"][:, 0], targ["angle"][:, 1])
    return (torch.atan2(double.sin(), double.cos()).abs() / 2).rad2deg().sum().item()


class Callback:
    def before_fit(self, learn): pass
    def after_batch(self, learn): pass
    def after_epoch(self, learn): pass


class Recorder(Callback):
    def before_fit(self, learn):
        self.losses = []
        print("epoch  train_loss  " + "  ".join(m.__name__ for m in learn.metrics))

    def after_batch(self, learn):
        self.losses.append(learn.loss.item())

    def after_epoch(self, learn):
        recent = self.losses[-len(learn.dls.train):]
        print(f"{learn.epoch:5d}  {sum(recent) / len(recent):10.4f}  " + "  ".join(f"{v:8.3f}" for v in learn.values))


class Learner:
    def __init__(self, dls, model, loss_func, metrics, cbs):
        self.dls, self.model, self.loss_func, self.metrics, self.cbs = dls, model, loss_func, metrics, cbs

    def __call__(self, name):
        for cb in self.cbs:
            getattr(cb, name)(self)

    def one_batch(self, xb, yb):
        self.loss = self.loss_func(self.model(xb), yb)
        self.loss.backward()
        self.opt.step()
        self.sched.step()
        self.opt.zero_grad()

    def validate(self):
        self.model.eval()
        dl, sums = self.dls.valid, [0.0] * len(self.metrics)
        with torch.no_grad():
            for xb, yb in dl:
                preds = self.model(xb)
                sums = [s + m(preds, yb) for s, m in zip(sums, self.metrics)]
        return [s / len(dl.dataset) for s in sums]

    def fit_one_cycle(self, n_epoch, lr_max):
        self.opt = torch.optim.AdamW(self.model.parameters(), lr=lr_max, weight_decay=0.01)
        self.sched = torch.optim.lr_scheduler.OneCycleLR(self.opt, lr_max, total_steps=n_epoch * len(self.dls.train))
        self("before_fit")
        for self.epoch in range(n_epoch):
            self.model.train()
            for xb, yb in self.dls.train:
                self.one_batch(xb, yb)
                self("after_batch")
            self.values = self.validate()
            self("after_epoch")


if __name__ == "__main__":
    torch.manual_seed(3)
    train_dl = DataLoader(TurnedBoxes(1000, seed=0, flip=True), batch_size=50, shuffle=True)
    valid_dl = DataLoader(TurnedBoxes(200, seed=1), batch_size=64)
    learn = Learner(SimpleNamespace(train=train_dl, valid=valid_dl), MultiHead(), joint_loss,
                    metrics=[hits, center_px, angle_deg], cbs=[Recorder()])
    learn.fit_one_cycle(14, lr_max=4e-3)
    print("valid:", {m.__name__: round(v, 3) for m, v in zip(learn.metrics, learn.values)})
