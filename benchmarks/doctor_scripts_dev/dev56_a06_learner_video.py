"""Direction and speed of moving blobs in short clips, with a fastai-like Learner and callbacks."""
import math
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

DIRECTIONS = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}
SPEED_MEAN, SPEED_STD = 1.25, 0.43


def make_clips(count, frames=6, size=16, seed=0):
    g = torch.Generator().manual_seed(seed)
    kinds = list(DIRECTIONS)
    names = [kinds[i] for i in torch.randint(0, 4, (count,), generator=g).tolist()]
    speed = 0.5 + 1.5 * torch.rand(count, generator=g)
    step = torch.tensor([DIRECTIONS[name] for name in names]).float() * speed[:, None]
    middle = 6.0 + 3.0 * torch.rand(count, 2, generator=g)
    time = torch.arange(frames).float() - (frames - 1) / 2
    place = middle[:, None] + time[None, :, None] * step[:, None]
    y, x = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
    squared = (x - place[..., 0, None, None]) ** 2 + (y - place[..., 1, None, None]) ** 2
    blob = torch.exp(-squared / 4.0)
    color = 0.5 + 0.5 * torch.rand(count, 3, generator=g)
    clips = blob[:, None] * color[:, :, None, None, None]
    clips = clips + 0.05 * torch.randn(clips.shape, generator=g)
    return clips, names, speed


class ClipDataset(Dataset):
    """Clips of channels x frames x height x width, each with a direction and a speed in pixels a frame."""

    def __init__(self, count, seed, vocab=None, augment=False):
        self.clips, self.names, self.speed = make_clips(count, seed=seed)
        self.vocab = list(vocab or DIRECTIONS)
        self.o2i = {name: i for i, name in enumerate(self.vocab)}
        self.augment = augment

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, index):
        clip, name = self.clips[index], self.names[index]
        if self.augment:
            clip = clip * random.uniform(0.8, 1.2)
        speed = (self.speed[index] - SPEED_MEAN) / SPEED_STD
        return (clip - 0.05) / 0.15, self.o2i[name], speed


class VideoNet(nn.Module):
    def __init__(self, width=16, hidden=48, classes=4):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, 2, 1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.Flatten(),
        )
        self.rnn = nn.GRU(2 * width * 16, hidden, batch_first=True)
        self.drop = nn.Dropout(0.2)
        self.direction = nn.Linear(hidden, classes)
        self.speed = nn.Linear(hidden, 1)

    def forward(self, x):
        n, c, t, h, w = x.shape
        frames = x.permute(0, 2, 1, 3, 4).reshape(n * t, c, h, w)
        states, _ = self.rnn(self.body(frames).view(n, t, -1))
        last = self.drop(states[:, -1])
        return self.direction(last), self.speed(last).squeeze(-1)


class MultiTaskLoss(nn.Module):
    def __init__(self, speed_weight=0.5):
        super().__init__()
        self.speed_weight = speed_weight

    def forward(self, preds, direction, speed):
        return F.cross_entropy(preds[0], direction) + self.speed_weight * F.mse_loss(preds[1], speed)


class Callback:
    learn = None


class OneCycleSched(Callback):
    def __init__(self, lr_max, pct_start=0.25, div=25.0, div_final=1e3):
        self.lr_max, self.pct_start, self.div, self.div_final = lr_max, pct_start, div, div_final

    def before_fit(self):
        self.done, self.total = 0, self.learn.n_epoch * len(self.learn.train_dl)

    def before_batch(self):
        if not self.learn.training:
            return
        pos = self.done / self.total
        if pos < self.pct_start:
            start, end, pos = self.lr_max / self.div, self.lr_max, pos / self.pct_start
        else:
            start, end, pos = self.lr_max, self.lr_max / self.div_final, (pos - self.pct_start) / (1 - self.pct_start)
        lr = end + (start - end) * (1 + math.cos(math.pi * pos)) / 2
        for group in self.learn.opt.param_groups:
            group["lr"] = lr
        self.done += 1


class Metrics(Callback):
    def before_epoch(self):
        self.values = {True: [0.0, 0, 0.0, 0], False: [0.0, 0, 0.0, 0]}

    def after_batch(self):
        learn, v = self.learn, self.values[self.learn.training]
        count = len(learn.direction)
        v[0] += learn.loss.item() * count
        v[1] += (learn.preds[0].argmax(dim=1) == learn.direction).sum().item()
        v[2] += (learn.preds[1] - learn.speed).abs().sum().item() * SPEED_STD
        v[3] += count

    def after_epoch(self):
        t, v = self.values[True], self.values[False]
        print(f"{self.learn.epoch:>3}  train {t[0] / t[3]:.4f}  valid {v[0] / v[3]:.4f}  acc {v[1] / v[3]:.3f}  mae {v[2] / v[3]:.3f}")


class Learner:
    def __init__(self, train_dl, valid_dl, model, loss_func, opt_func, lr, cbs=()):
        self.train_dl, self.valid_dl, self.model, self.loss_func = train_dl, valid_dl, model, loss_func
        self.opt = opt_func(model.parameters(), lr=lr)
        self.cbs, self.training = list(cbs), False
        for cb in self.cbs:
            cb.learn = self

    def __call__(self, event):
        for cb in self.cbs:
            getattr(cb, event, lambda: None)()

    def one_batch(self):
        clip, self.direction, self.speed = self.batch
        self("before_batch")
        self.preds = self.model(clip)
        self.loss = self.loss_func(self.preds, self.direction, self.speed)
        if self.training:
            self.loss.backward()
            self.opt.step()
            self.opt.zero_grad()
        self("after_batch")

    def one_epoch(self, training):
        self.training = training
        self.model.train(self.training)
        with torch.set_grad_enabled(training):
            for self.batch in self.train_dl if training else self.valid_dl:
                self.one_batch()

    def fit(self, n_epoch):
        self.n_epoch = n_epoch
        self("before_fit")
        for self.epoch in range(n_epoch):
            self("before_epoch")
            self.one_epoch(True)
            self.one_epoch(False)
            self("after_epoch")


def main():
    torch.manual_seed(0)
    random.seed(0)
    train_ds = ClipDataset(1000, seed=1, augment=True)
    valid_ds = ClipDataset(250, seed=2, vocab=train_ds.vocab)
    train_dl = DataLoader(train_ds, batch_size=32, shuffle=True, drop_last=True)
    valid_dl = DataLoader(valid_ds, batch_size=64)
    learn = Learner(train_dl, valid_dl, VideoNet(), MultiTaskLoss(), torch.optim.AdamW, lr=3e-3, cbs=[OneCycleSched(3e-3), Metrics()])
    learn.fit(8)


if __name__ == "__main__":
    main()
