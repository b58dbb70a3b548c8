# Transfer learning with a small Learner: a network that knows the digits 0-4 learns the digits 5-9.
# (Made from a notebook.)

# %% imports
from collections import namedtuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

from toydata import Digits

torch.manual_seed(33)
DataLoaders = namedtuple("DataLoaders", "train valid")

# %% data
train_digits = Digits(train=True, count=1900)
valid_digits = Digits(train=False, count=500)
train_pixels = train_digits.data.float() / 255
stats = train_pixels.mean(), train_pixels.std()


def subset(digits, first, last):
    keep = (digits.targets >= first) & (digits.targets <= last)
    x = (digits.data[keep].float() / 255 - stats[0]) / stats[1]
    return TensorDataset(x, digits.targets[keep] - first)


def get_dls(first, last, bs=32):
    return DataLoaders(
        DataLoader(subset(train_digits, first, last), batch_size=bs, shuffle=True, drop_last=True),
        DataLoader(subset(valid_digits, first, last), batch_size=bs * 4),
    )


# %% the learner
class Learner:
    def __init__(self, dls, model, loss_func=F.cross_entropy, wd=1e-2):
        self.dls, self.model, self.loss_func, self.wd = dls, model, loss_func, wd

    def one_batch(self, xb, yb):
        loss = self.loss_func(self.model(xb), yb)
        self.opt.zero_grad()
        loss.backward()
        self.opt.step()
        self.sched.step()
        return loss.detach() * len(xb)

    def one_epoch(self):
        self.model.train()
        total = sum(self.one_batch(xb, yb) for xb, yb in self.dls.train)
        return float(total) / (len(self.dls.train) * self.dls.train.batch_size)

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        outs = [(self.model(xb), yb) for xb, yb in self.dls.valid]
        preds, targs = torch.cat([o for o, _ in outs]), torch.cat([y for _, y in outs])
        return self.loss_func(preds, targs).item(), (preds.argmax(1) == targs).float().mean().item()

    def fit_one_cycle(self, n_epoch, lr_max, body_div=1.0):
        body, head = self.model
        lrs = [lr_max / body_div, lr_max]
        self.opt = AdamW([{"params": list(m.parameters()), "lr": lr} for m, lr in zip((body, head), lrs)],
                         weight_decay=self.wd)
        self.sched = OneCycleLR(self.opt, max_lr=lrs, total_steps=n_epoch * len(self.dls.train), pct_start=0.25)
        print("epoch  train_loss  valid_loss  accuracy")
        for epoch in range(n_epoch):
            train_loss = self.one_epoch()
            valid_loss, accuracy = self.validate()
            print(f"{epoch:5d}  {train_loss:10.4f}  {valid_loss:10.4f}  {accuracy:8.4f}")
        return accuracy


# %% the model
def conv_layer(ni, nf):
    return nn.Sequential(nn.Conv2d(ni, nf, 3, padding=1, bias=False), nn.BatchNorm2d(nf), nn.ReLU(), nn.MaxPool2d(2))


def create_head(n_out):
    return nn.Sequential(nn.Flatten(), nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, n_out))


body = nn.Sequential(conv_layer(1, 16), conv_layer(16, 32))

# %% first 0-4
learn = Learner(get_dls(0, 4), nn.Sequential(body, create_head(5)))
source_accuracy = learn.fit_one_cycle(8, 3e-3)

# %% then 5-9, with a new head and small steps for the body
learn = Learner(get_dls(5, 9), nn.Sequential(body, create_head(5)))
target_accuracy = learn.fit_one_cycle(10, 3e-3, body_div=5.0)

print(f"0-4: {100 * source_accuracy:.1f} %   5-9: {100 * target_accuracy:.1f} %")
print("parameters:", int(np.sum([p.numel() for p in learn.model.parameters()])))
