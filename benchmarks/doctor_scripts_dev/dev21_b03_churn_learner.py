"""Who will leave? Tabular classification with entity embeddings and a small fastai-like Learner."""

from collections import Counter

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAT_NAMES = ["city", "job", "plan", "weekday"]
CONT_NAMES = ["age", "income", "tenure"]
Y_NAME = "left"


def read_customers(count=24000, seed=0):
    """A table as a dict of columns; as exported: first all who stayed, then all who left."""
    rng = np.random.default_rng(seed)
    city, job, plan, weekday = codes = [rng.integers(0, n, count) for n in (40, 12, 5, 7)]
    age, tenure = rng.uniform(18, 80, count), rng.exponential(3.0, count)
    income = np.exp(rng.normal(10.3, 0.5, count))
    score = (
        1.2 * rng.normal(size=40)[city]
        + 1.0 * rng.normal(size=(12, 5))[job, plan]
        + 0.5 * rng.normal(size=7)[weekday]
        - 0.8 * (np.log(income) - 10.3) / 0.5
        + 0.7 * np.cos(age / 10) - 0.2 * tenure
        + 0.4 * rng.normal(size=count)
    )
    left = (score > np.quantile(score, 0.7)).astype(np.float32)
    table = {
        **{name: np.char.add(f"{name}_", column.astype(str)) for name, column in zip(CAT_NAMES, codes)},
        "age": age,
        "income": np.where(rng.random(count) < 0.05, np.nan, income),
        "tenure": tenure,
        "final_invoice": left * rng.gamma(4.0, 40.0, count),  # sent when somebody has left
        "left": left,
    }
    return take(table, np.argsort(left, kind="stable"))


def take(table, rows):
    return {name: column[rows] for name, column in table.items()}


# procs are set up on training rows and applied to all
class FillMissing:
    def setup(self, table):
        self.median = {name: np.nanmedian(table[name]) for name in CONT_NAMES}

    def __call__(self, table):
        return {**table, **{n: np.where(np.isnan(table[n]), self.median[n], table[n]) for n in CONT_NAMES}}


class Categorify:
    """Codes from 1 on, the most frequent value first; 0 is for values that were not seen."""

    def setup(self, table):
        self.vocab = {}
        for name in CAT_NAMES:
            counts = Counter(table[name].tolist())
            self.vocab[name] = {value: code for code, (value, _) in enumerate(counts.most_common(), start=1)}

    def __call__(self, table):
        codes = {n: np.array([self.vocab[n].get(value, 0) for value in table[n].tolist()]) for n in CAT_NAMES}
        return {**table, **codes}


class Normalize:
    def setup(self, table):
        self.stats = {name: (table[name].mean(), table[name].std()) for name in CONT_NAMES}

    def __call__(self, table):
        return {**table, **{n: (table[n] - mean) / (std + 1e-7) for n, (mean, std) in self.stats.items()}}


def process(table, procs, setup=False):
    for proc in procs:
        if setup:
            proc.setup(table)
        table = proc(table)
    return table


def to_dataset(table):
    cats = torch.from_numpy(np.stack([table[name] for name in CAT_NAMES], axis=1)).long()
    conts = torch.from_numpy(np.stack([table[name] for name in CONT_NAMES], axis=1)).float()
    return TensorDataset(cats, conts, torch.from_numpy(table[Y_NAME]).float())


class TabularModel(nn.Module):
    def __init__(self, emb_sizes, n_cont, layers, p=0.1):
        super().__init__()
        self.embeds = nn.ModuleList([nn.Embedding(n, d) for n, d in emb_sizes])
        sizes = [sum(d for _, d in emb_sizes) + n_cont, *layers]
        blocks = []
        for n_in, n_out in zip(sizes[:-1], sizes[1:]):
            blocks += [nn.Linear(n_in, n_out), nn.ReLU(), nn.BatchNorm1d(n_out), nn.Dropout(p)]
        self.layers = nn.Sequential(*blocks, nn.Linear(sizes[-1], 1))

    def forward(self, x_cat, x_cont):
        x = torch.cat([e(x_cat[:, i]) for i, e in enumerate(self.embeds)] + [x_cont], dim=1)
        return self.layers(x).squeeze(1)


class Callback:
    def __getattr__(self, name):
        if name.startswith(("before_", "after_")):
            return lambda: None
        raise AttributeError(name)


class OneCycle(Callback):
    def before_fit(self):
        steps = self.learn.n_epoch * len(self.learn.train_dl)
        self.sched = torch.optim.lr_scheduler.OneCycleLR(self.learn.opt, max_lr=self.learn.lr, total_steps=steps)

    def after_step(self):
        self.sched.step()


class Metrics(Callback):
    def before_epoch(self):
        self.train_losses, self.logits, self.targets = [], [], []

    def after_batch(self):
        if self.learn.training:
            self.train_losses.append(self.learn.loss.detach())
        else:
            self.logits.append(self.learn.pred)
            self.targets.append(self.learn.y)

    def after_epoch(self):
        logits, targets = torch.cat(self.logits), torch.cat(self.targets)
        loss = F.binary_cross_entropy_with_logits(logits, targets).item()
        accuracy = ((torch.sigmoid(logits) > 0.5) == (targets > 0.5)).float().mean().item()
        auc = roc_auc_score(targets.numpy(), logits.numpy())
        train_loss = torch.stack(self.train_losses).mean()
        print(f"{self.learn.epoch:3d}  train {train_loss:.4f}  valid {loss:.4f}  accuracy {accuracy:.4f}  auc {auc:.4f}")


class Learner:
    def __init__(self, train_dl, valid_dl, model, loss_func, cbs):
        self.train_dl, self.valid_dl, self.model = train_dl, valid_dl, model
        self.loss_func, self.cbs = loss_func, cbs
        for cb in cbs:
            cb.learn = self

    def __call__(self, event):
        for cb in self.cbs:
            getattr(cb, event)()

    def one_batch(self, x_cat, x_cont, y):
        self.y = y
        self.pred = self.model(x_cat, x_cont)
        self.loss = self.loss_func(self.pred, y)
        if self.training:
            self.loss.backward()
            self.opt.step()
            self("after_step")
            self.opt.zero_grad()
        self("after_batch")

    def all_batches(self, dl, training):
        self.training = training
        self.model.train(training)
        with torch.set_grad_enabled(training):
            for batch in dl:
                self.one_batch(*batch)

    def fit_one_cycle(self, n_epoch, lr, wd=0.01):
        self.n_epoch, self.lr = n_epoch, lr
        self.opt = torch.optim.AdamW(self.model.parameters(), lr=lr, weight_decay=wd)
        self("before_fit")
        for self.epoch in range(n_epoch):
            self("before_epoch")
            self.all_batches(self.train_dl, training=True)
            self.all_batches(self.valid_dl, training=False)
            self("after_epoch")


torch.manual_seed(42)
customers = read_customers()
rows = np.random.default_rng(42).permutation(len(customers[Y_NAME]))
cut = int(0.8 * len(rows))
train_rows, valid_rows = np.sort(rows[:cut]), np.sort(rows[cut:])

procs = [FillMissing(), Categorify(), Normalize()]
train = process(take(customers, train_rows), procs, setup=True)
valid = process(take(customers, valid_rows), procs)
train_ds, valid_ds = to_dataset(train), to_dataset(valid)

emb_sizes = []
for name in CAT_NAMES:
    n = int(train[name].max()) + 1
    emb_sizes.append((n, min(16, round(1.6 * n**0.56))))
train_dl = DataLoader(train_ds, batch_size=64, shuffle=True)
valid_dl = DataLoader(valid_ds, batch_size=512)
model = TabularModel(emb_sizes, len(CONT_NAMES), layers=[128, 64])
learn = Learner(train_dl, valid_dl, model, F.binary_cross_entropy_with_logits, cbs=[OneCycle(), Metrics()])
learn.fit_one_cycle(16, lr=3e-3)
