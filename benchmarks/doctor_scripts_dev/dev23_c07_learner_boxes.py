"""A learner with callbacks, in the manner of fastai: class and box of a shape, weighted by learned uncertainty."""
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes


class BoxData(Dataset):
    def __init__(self, train, count):
        self.base, self.train = Shapes(train=train, count=count), train

    def __len__(self):
        return len(self.base)

    def __getitem__(self, i):
        image, box = (self.base.images[i] - 0.5) / 0.2, self.base.boxes[i]
        if self.train and torch.rand(()) < 0.5:
            left, top, right, bottom = box
            image, box = image.flip(2), torch.stack([1 - right, top, 1 - left, bottom])
        return image, (self.base.targets[i], box)


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU(),
            nn.Conv2d(24, 48, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(48), nn.ReLU(),
            nn.Conv2d(48, 64, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
            nn.Flatten(), nn.Linear(64 * 16, 128), nn.ReLU(), nn.Dropout(0.1),
        )
        self.kind = nn.Linear(128, len(NAMES))
        self.box = nn.Linear(128, 4)

    def forward(self, x):
        hidden = self.body(x)
        return self.kind(hidden), self.box(hidden).sigmoid()


class UncertaintyLoss(nn.Module):
    """Each loss is divided by a learned variance (Kendall et al.); may well fall below zero."""

    def __init__(self):
        super().__init__()
        self.log_vars = nn.Parameter(torch.zeros(2))

    def forward(self, outputs, targets):
        kind, box = targets
        losses = torch.stack([F.cross_entropy(outputs[0], kind), 10 * F.smooth_l1_loss(outputs[1], box, beta=0.05)])
        return (losses * (-self.log_vars).exp() + 0.5 * self.log_vars).sum()


class Callback:
    def before_fit(self, learn): pass
    def after_backward(self, learn): pass
    def after_step(self, learn): pass
    def after_epoch(self, learn): pass


class Clip(Callback):
    def __init__(self, limit):
        self.limit = limit

    def after_backward(self, learn):
        nn.utils.clip_grad_norm_(learn.model.parameters(), self.limit)


class Schedule(Callback):
    def __init__(self, factory):
        self.factory = factory

    def before_fit(self, learn):
        self.scheduler = self.factory(learn.opt, learn.epochs * len(learn.train_dl))

    def after_step(self, learn):
        self.scheduler.step()


class EMA(Callback):
    def __init__(self, decay):
        self.decay = decay

    def before_fit(self, learn):
        learn.eval_model = copy.deepcopy(learn.model).requires_grad_(False)

    @torch.no_grad()
    def after_step(self, learn):
        decay = min(self.decay, (1 + learn.step) / (10 + learn.step))
        for average, value in zip(learn.eval_model.state_dict().values(), learn.model.state_dict().values()):
            if average.is_floating_point():
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)


def box_iou(a, b):
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    inter = (high - low).clamp(min=0).prod(1)
    area = lambda x: (x[:, 2:] - x[:, :2]).clamp(min=0).prod(1)
    return inter / (area(a) + area(b) - inter).clamp(min=1e-6)


class Learner:
    def __init__(self, train_dl, valid_dl, model, loss_func, cbs=()):
        self.train_dl, self.valid_dl, self.model, self.loss_func, self.cbs = train_dl, valid_dl, model, loss_func, cbs
        self.eval_model, self.step = model, 0

    def __call__(self, event):
        for cb in self.cbs:
            getattr(cb, event)(self)

    def fit(self, epochs, lr, wd=1e-3):
        self.epochs = epochs
        self.opt = torch.optim.AdamW(
            [{"params": self.model.parameters()}, {"params": self.loss_func.parameters(), "weight_decay": 0.0}],
            lr=lr, weight_decay=wd,
        )
        self("before_fit")
        for self.epoch in range(epochs):
            self.one_epoch()
            self.validate()
            self("after_epoch")

    def one_epoch(self):
        self.model.train()
        self.total = 0.0
        for x, y in self.train_dl:
            loss = self.loss_func(self.model(x), y)
            loss.backward()
            self("after_backward")
            self.opt.step()
            self.opt.zero_grad()
            self.step += 1
            self("after_step")
            self.total += loss.item()

    @torch.no_grad()
    def validate(self):
        self.eval_model.eval()
        right, overlap, count = 0, 0.0, 0
        for x, (kind, box) in self.valid_dl:
            logits, boxes = self.eval_model(x)
            right += (logits.argmax(1) == kind).sum().item()
            overlap += box_iou(boxes, box).sum().item()
            count += len(x)
        weights = (-self.loss_func.log_vars).exp().tolist()
        print(f"{self.epoch:3d} train {self.total / len(self.train_dl):8.4f} accuracy {right / count:.3f} "
              f"IoU {overlap / count:.3f} weights {weights[0]:.2f} {weights[1]:.2f}")


if __name__ == "__main__":
    torch.manual_seed(1)
    learn = Learner(
        DataLoader(BoxData(True, 1600), batch_size=64, shuffle=True), DataLoader(BoxData(False, 300), batch_size=100),
        TwoHeads(), UncertaintyLoss(),
        cbs=[
            Clip(5.0),
            Schedule(lambda opt, steps: torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=4e-3, total_steps=steps)),
            EMA(0.98),
        ],
    )
    learn.fit(24, lr=4e-3)
