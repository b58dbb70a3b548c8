"""Churn from numbers and categories, with a learner and callbacks in the way of fastai; area under the ROC curve."""

from functools import partial

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.utils.data import DataLoader, TensorDataset

CARDS = [12, 5, 7]  # city, plan, channel


def make_customers(count, seed, world=np.random.default_rng(123)):
    effects = make_customers.__dict__.setdefault("effects", [world.normal(0, 0.9, card) for card in CARDS])
    rng = np.random.default_rng(seed)
    cats = np.stack([rng.integers(0, card, count) for card in CARDS], axis=1)
    conts = rng.normal(0, 1, (count, 6))
    score = sum(effect[cats[:, k]] for k, effect in enumerate(effects))
    score = score + 1.5 * conts[:, 0] - 1.0 * conts[:, 1] * (cats[:, 1] > 1) + 0.8 * (np.abs(conts[:, 2]) - 0.8)
    churn = rng.random(count) < 1 / (1 + np.exp(-(1.6 * score - 3.0)))
    money = np.array([1, 40, 1, 300, 0.05, 10]) * conts + np.array([0, 120, 0, 900, 1, 50])
    return cats, money.astype(np.float32), churn.astype(np.float32)


class TabularModel(nn.Module):
    def __init__(self, cards, n_cont, layers=(64, 32), ps=0.1, embed_p=0.05):
        super().__init__()
        sizes = [min(50, (card + 1) // 2) for card in cards]
        self.embeds = nn.ModuleList([nn.Embedding(card, size) for card, size in zip(cards, sizes)])
        for embed in self.embeds:
            nn.init.trunc_normal_(embed.weight, std=0.1)
        self.emb_drop = nn.Dropout(embed_p)
        self.bn_cont = nn.BatchNorm1d(n_cont)
        widths = [sum(sizes) + n_cont, *layers]
        blocks = []
        for n_in, n_out in zip(widths[:-1], widths[1:]):
            blocks += [nn.Linear(n_in, n_out, bias=False), nn.ReLU(inplace=True), nn.BatchNorm1d(n_out), nn.Dropout(ps)]
        self.layers = nn.Sequential(*blocks, nn.Linear(widths[-1], 1))

    def forward(self, x_cat, x_cont):
        x = torch.cat([embed(x_cat[:, i]) for i, embed in enumerate(self.embeds)], 1)
        x = torch.cat([self.emb_drop(x), self.bn_cont(x_cont)], 1)
        return self.layers(x).squeeze(1)


class Callback:
    def before_fit(self, learn): pass
    def after_batch(self, learn): pass
    def after_epoch(self, learn): pass


class OneCycle(Callback):
    def __init__(self, lr_max):
        self.lr_max = lr_max

    def before_fit(self, learn):
        total = learn.n_epoch * len(learn.train_dl)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(learn.opt, self.lr_max, total_steps=total, pct_start=0.25)

    def after_batch(self, learn):
        if learn.training:
            self.schedule.step()


class Recorder(Callback):
    def __init__(self, **metrics):
        self.metrics = metrics

    def after_epoch(self, learn):
        y, p = torch.cat(learn.targs).numpy(), torch.cat(learn.preds).sigmoid().numpy()
        values = "  ".join(f"{name} {metric(y, p):.4f}" for name, metric in self.metrics.items())
        print(f"epoch {learn.epoch:2d}  train {learn.losses[True]:.4f}  valid {learn.losses[False]:.4f}  {values}")


class Learner:
    def __init__(self, train_dl, valid_dl, model, loss_func, opt_func, cbs):
        self.train_dl, self.valid_dl, self.model, self.loss_func = train_dl, valid_dl, model, loss_func
        self.opt, self.cbs = opt_func(model.parameters()), cbs

    def __call__(self, event):
        for cb in self.cbs:
            getattr(cb, event)(self)

    def one_pass(self, dl, training):
        self.training, total, count = training, 0.0, 0
        self.model.train(training)
        self.preds, self.targs = [], []
        for x_cat, x_cont, y in dl:
            with torch.set_grad_enabled(training):
                pred = self.model(x_cat, x_cont)
                loss = self.loss_func(pred, y)
            if training:
                loss.backward()
                self.opt.step()
                self.opt.zero_grad()
            self.preds.append(pred.detach())
            self.targs.append(y)
            total, count = total + loss.item() * len(y), count + len(y)
            self("after_batch")
        self.losses[training] = total / count

    def fit(self, n_epoch):
        self.n_epoch, self.losses = n_epoch, {}
        self("before_fit")
        for self.epoch in range(n_epoch):
            self.one_pass(self.train_dl, True)
            self.one_pass(self.valid_dl, False)
            self("after_epoch")


def dataset(count, seed, stats=None):
    cats, conts, churn = make_customers(count, seed)
    mean, std = stats or (conts.mean(0), conts.std(0))
    return TensorDataset(*map(torch.from_numpy, (cats, (conts - mean) / std, churn))), (mean, std)


if __name__ == "__main__":
    torch.manual_seed(4)
    torch.set_num_threads(1)
    train_ds, stats = dataset(12000, seed=1)
    valid_ds, _ = dataset(1500, seed=2, stats=stats)
    print(f"share of churn: {train_ds.tensors[2].mean():.3f}")
    learn = Learner(
        DataLoader(train_ds, batch_size=64, shuffle=True, drop_last=True), DataLoader(valid_ds, batch_size=500),
        TabularModel(CARDS, 6), nn.BCEWithLogitsLoss(), partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.01),
        [OneCycle(5e-3), Recorder(auc=roc_auc_score, ap=average_precision_score)],
    )
    learn.fit(14)
