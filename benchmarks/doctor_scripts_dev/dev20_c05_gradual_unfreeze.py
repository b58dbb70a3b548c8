"""Gradual unfreezing, in the manner of fastai: pretrain on digits, then learn mirrored digits from few samples."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


def block(inputs, outputs, pool=True):
    layers = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2)) if pool else nn.Sequential(*layers)


def make_head(classes=10):
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(96 * 4 * 4, classes))


class DataBunch:
    """Training and validation loaders that share their statistics."""

    def __init__(self, train, valid, stats, bs):
        mean, std = stats
        prepare = lambda images: (images.float() / 255 - mean) / std  # noqa: E731
        self.train_dl = DataLoader(TensorDataset(prepare(train[0]), train[1]), bs, shuffle=True, drop_last=True)
        self.valid_dl = DataLoader(TensorDataset(prepare(valid[0]), valid[1]), 2 * bs)


class Learner:
    def __init__(self, data, groups, loss_func=F.cross_entropy):
        self.data, self.loss_func = data, loss_func
        self.groups = groups  # from the input to the head
        self.model = nn.Sequential(*groups)
        self.frozen_to = 0

    def freeze_to(self, n):
        """Groups before number n keep their weights and their batch norm statistics."""
        self.frozen_to = n % len(self.groups)
        for i, group in enumerate(self.groups):
            for p in group.parameters():
                p.requires_grad_(i >= self.frozen_to)

    def unfreeze(self):
        self.freeze_to(0)

    def set_train(self):
        self.model.train()
        for group in self.groups[: self.frozen_to]:
            group.eval()

    def make_opt(self, lr, div):
        last = len(self.groups) - 1
        params = [
            {"params": list(group.parameters()), "lr": lr / div ** (last - i)}
            for i, group in enumerate(self.groups)
            if i >= self.frozen_to
        ]
        return torch.optim.Adam(params, lr=lr)

    def fit(self, epochs, lr, div=1.0):
        opt = self.make_opt(lr, div)
        trainable = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        print(f"-- {epochs} epochs, {trainable} trainable parameters, rates {[g['lr'] for g in opt.param_groups]}")
        for epoch in range(epochs):
            self.set_train()
            smooth = None
            for xb, yb in self.data.train_dl:
                loss = self.loss_func(self.model(xb), yb)
                loss.backward()
                opt.step()
                opt.zero_grad()
                smooth = loss.item() if smooth is None else 0.9 * smooth + 0.1 * loss.item()
            valid_loss, accuracy = self.validate()
            print(f"{epoch:3d}  train {smooth:.4f}  valid {valid_loss:.4f}  accuracy {accuracy:.4f}")

    def validate(self):
        self.model.eval()
        loss, hits, n = 0.0, 0, 0
        with torch.no_grad():
            for xb, yb in self.data.valid_dl:
                out = self.model(xb)
                loss += self.loss_func(out, yb, reduction="sum").item()
                hits += (out.argmax(dim=-1) == yb).sum().item()
                n += len(yb)
        return loss / n, hits / n


def mirrored(count, seed):
    images, labels = draw_digits(count, seed=seed, noise=0.12)
    return images.flip(-1), labels


torch.manual_seed(3)

# 1. The source task: many upright digits
source_train, source_valid = draw_digits(4000, seed=20), draw_digits(400, seed=21)
pixels = source_train[0].float() / 255
stats = pixels.mean(), pixels.std()
body = [block(1, 24), block(24, 48), block(48, 96, pool=False)]
source = Learner(DataBunch(source_train, source_valid, stats, bs=64), body + [make_head()])
source.fit(8, lr=1e-3)

# 2. The target task: few mirrored digits (a mirrored 2 looks like a 5), a new head on the same body.
# The images go through the statistics that the body was trained with.
target = Learner(DataBunch(mirrored(800, 22), mirrored(400, 23), stats, bs=32), body + [make_head()])
target.freeze_to(-1)  # the head alone
target.fit(5, lr=1e-3)
target.freeze_to(-2)  # and the last block
target.fit(5, lr=1e-3, div=2.6)
target.unfreeze()  # all, the first layers slowest
target.fit(6, lr=5e-4, div=2.6)
print("final accuracy on mirrored digits:", target.validate()[1])
