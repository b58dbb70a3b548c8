"""A fastai-like learner: trained on digits 0-4, then carried over to 5-9 with a frozen body, then fine-tuned at low rates."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


class Callback:
    def before_fit(self, learn): ...
    def after_batch(self, learn): ...
    def after_epoch(self, learn): ...


class OneCycle(Callback):
    def before_fit(self, learn):
        self.sched = torch.optim.lr_scheduler.OneCycleLR(
            learn.opt, max_lr=[g["lr"] for g in learn.opt.param_groups], total_steps=learn.n_epochs * len(learn.dls[0]), pct_start=0.3
        )

    def after_batch(self, learn):
        if learn.model_training:
            self.sched.step()


class Recorder(Callback):
    def after_epoch(self, learn):
        print(f"{learn.name:9s} epoch {learn.epoch}  train_loss {learn.train_loss:.4f}  valid_loss {learn.valid_loss:.4f}  accuracy {learn.accuracy:.4f}")


class Learner:
    def __init__(self, name, dls, body, head, cbs):
        self.name, self.dls, self.body, self.head, self.cbs = name, dls, body, head, cbs
        self.model = nn.Sequential(body, head)

    def __call__(self, event):
        for cb in self.cbs:
            getattr(cb, event)(self)

    def freeze(self):
        self.body.requires_grad_(False)
        self.frozen = True

    def unfreeze(self):
        self.body.requires_grad_(True)
        self.frozen = False

    def fit(self, n_epochs, lr_body, lr_head):
        groups = [{"params": self.head.parameters(), "lr": lr_head}]
        if not self.frozen:
            groups.append({"params": self.body.parameters(), "lr": lr_body})
        self.opt = torch.optim.AdamW(groups, weight_decay=0.01)
        self.n_epochs = n_epochs
        self("before_fit")
        for self.epoch in range(n_epochs):
            self.train_loss, _ = self.one_epoch(self.dls[0], train=True)
            with torch.no_grad():
                self.valid_loss, self.accuracy = self.one_epoch(self.dls[1], train=False)
            self("after_epoch")

    def one_epoch(self, dl, train):
        self.model_training = train
        self.model.train(train)
        if self.frozen:
            self.body.eval()  # a frozen body keeps its batch statistics too
        loss_sum, correct, count = 0.0, 0, 0
        for xb, yb in dl:
            pred = self.model(xb)
            loss = F.cross_entropy(pred, yb)
            if train:
                loss.backward()
                self.opt.step()
                self.opt.zero_grad()
            self("after_batch")
            loss_sum += loss.item() * len(yb)
            correct += (pred.argmax(1) == yb).sum().item()
            count += len(yb)
        return loss_sum / count, correct / count


def make_body():
    layers, channels = [], 1
    for width in (24, 48, 64):
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        if width < 64:
            layers.append(nn.MaxPool2d(2))
        channels = width
    return nn.Sequential(*layers)


def make_head(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * 16, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, classes))


def make_dls(first, count, seed):
    """Digits first .. first + 4 as classes 0 .. 4; validation is drawn with another seed."""
    sets = []
    for number, this_seed in ((count, seed), (600, seed + 1)):
        images, labels = draw_digits(number, seed=this_seed, noise=0.2)
        keep = (labels >= first) & (labels < first + 5)
        sets.append(TensorDataset((images[keep].float() / 255 - 0.2) / 0.3, labels[keep] - first))
    return DataLoader(sets[0], 32, shuffle=True, drop_last=True), DataLoader(sets[1], 100)


if __name__ == "__main__":
    torch.manual_seed(0)
    body = make_body()
    source = Learner("source", make_dls(0, 4800, seed=0), body, make_head(5), [OneCycle(), Recorder()])
    source.unfreeze()
    source.fit(8, lr_body=3e-3, lr_head=3e-3)

    target = Learner("target", make_dls(5, 2400, seed=20), body, make_head(5), [OneCycle(), Recorder()])
    target.freeze()
    target.fit(6, lr_body=0.0, lr_head=2e-3)
    target.name = "fine-tune"
    target.unfreeze()
    target.fit(8, lr_body=1e-4, lr_head=5e-4)
