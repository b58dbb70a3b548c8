"""When will a customer leave? A Cox network (DeepSurv) on a table, trained by a small Learner with callbacks."""

import copy

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(5)
torch.set_num_threads(1)


def simulate_customers(count, seed):
    """Customers of a telephone company, followed until they left (churned = 1) or the study ended (0)."""
    rng = np.random.default_rng(seed)
    age = rng.normal(45, 14, count)
    fee = rng.gamma(6, 8, count)
    income = rng.lognormal(10.4, 0.4, count)
    calls = rng.poisson(2.0, count).astype(float)
    data_gb = rng.gamma(2, 9, count)
    late = rng.binomial(6, 0.25, count).astype(float)
    distance = rng.exponential(30, count)
    trend = rng.normal(0, 1, count)
    plan = rng.integers(0, 4, count)
    risk = (
        0.6 * (calls - 2) / 1.4
        - 0.9 * trend
        + 0.7 * np.abs(age - 45) / 14
        + 0.8 * (late - 1.5) * np.where(plan == 2, -1.0, 1.0)
        + 0.5 * (np.log(income) - 10.4) / 0.4 * trend
        + np.array([0.0, 0.6, -0.3, -0.9])[plan]
    )
    until_churn = rng.exponential(30 * np.exp(-risk))
    until_end = rng.uniform(6, 60, count)
    months = np.minimum(until_churn, until_end)
    churned = (until_churn <= until_end).astype(np.float32)
    income[rng.random(count) < 0.08] = np.nan  # not everybody tells
    numeric = np.stack([age, fee, income, calls, data_gb, late, distance, trend], axis=1)
    return numeric, plan, months.astype(np.float32), churned


class Preprocessor:
    """Medians for what is missing, then zero mean and unit deviation, all measured on the training customers."""

    def fit(self, numeric):
        self.median = np.nanmedian(numeric, axis=0)
        filled = self.fill(numeric)
        self.mean, self.std = filled.mean(axis=0), filled.std(axis=0)
        return self

    def fill(self, numeric):
        return np.where(np.isnan(numeric), self.median, numeric)

    def transform(self, numeric):
        scaled = (self.fill(numeric) - self.mean) / self.std
        return torch.from_numpy(scaled.astype(np.float32))


class ChurnNet(nn.Module):
    def __init__(self, columns, plans=4, width=64, drop=0.2):
        super().__init__()
        self.plan = nn.Embedding(plans, 4)
        self.body = nn.Sequential(
            nn.Linear(columns + 4, width),
            nn.BatchNorm1d(width),
            nn.SiLU(),
            nn.Dropout(drop),
            nn.Linear(width, width),
            nn.BatchNorm1d(width),
            nn.SiLU(),
            nn.Dropout(drop),
        )
        self.log_risk = nn.Linear(width, 1, bias=False)

    def forward(self, numeric, plan):
        hidden = self.body(torch.cat([numeric, self.plan(plan)], dim=1))
        return self.log_risk(hidden).squeeze(1)


def cox_loss(log_risk, months, churned):
    """Negative partial log likelihood; whoever is still there when a customer leaves was at risk as well."""
    order = months.argsort(descending=True)
    log_risk, churned = log_risk[order], churned[order]
    log_at_risk = log_risk.logcumsumexp(dim=0)
    return -((log_risk - log_at_risk) * churned).sum() / churned.sum().clamp(min=1)


def concordance(risk, months, churned):
    """Harrell's C: of all comparable pairs, the share in which who left earlier has the higher risk."""
    comparable = (months[:, None] < months[None, :]) & (churned[:, None] == 1)
    higher = risk[:, None] > risk[None, :]
    equal = risk[:, None] == risk[None, :]
    return float(((comparable & higher).sum() + 0.5 * (comparable & equal).sum()) / comparable.sum())


class Callback:
    def before_fit(self, learner): ...

    def after_step(self, learner): ...

    def after_epoch(self, learner): ...

    def after_fit(self, learner): ...


class OneCycle(Callback):
    def before_fit(self, learner):
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(learner.optimizer, learner.lr, total_steps=learner.steps)

    def after_step(self, learner):
        self.scheduler.step()


class Progress(Callback):
    def after_epoch(self, learner):
        print(f"epoch {learner.epoch + 1:2d}  loss {learner.train_loss:.4f}  valid C-index {learner.value:.4f}", flush=True)


class KeepBest(Callback):
    def before_fit(self, learner):
        self.best, self.epoch, self.state = None, None, None

    def after_epoch(self, learner):
        if self.best is None or learner.value > self.best:
            self.best, self.epoch = learner.value, learner.epoch
            self.state = copy.deepcopy(learner.model.state_dict())

    def after_fit(self, learner):
        learner.model.load_state_dict(self.state)
        print(f"kept epoch {self.epoch + 1} with C-index {self.best:.4f}")


class Learner:
    def __init__(self, train_loader, valid_loader, model, loss_func, metric, lr, callbacks=()):
        self.train_loader, self.valid_loader = train_loader, valid_loader
        self.model, self.loss_func, self.metric, self.lr = model, loss_func, metric, lr
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-2)
        self.callbacks = list(callbacks)

    def __call__(self, event):
        for callback in self.callbacks:
            getattr(callback, event)(self)

    def one_batch(self, numeric, plan, months, churned):
        self.loss = self.loss_func(self.model(numeric, plan), months, churned)
        self.loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self("after_step")

    def fit(self, epochs):
        self.steps = epochs * len(self.train_loader)
        self("before_fit")
        for self.epoch in range(epochs):
            self.model.train()
            losses = []
            for batch in self.train_loader:
                self.one_batch(*batch)
                losses.append(self.loss.item())
            self.train_loss = np.mean(losses)
            self.value = self.validate(self.valid_loader)
            self("after_epoch")
        self("after_fit")

    @torch.no_grad()
    def validate(self, loader):
        self.model.eval()
        rows = [(self.model(numeric, plan), months, churned) for numeric, plan, months, churned in loader]
        return self.metric(*(torch.cat(column).numpy() for column in zip(*rows)))


tables = {name: simulate_customers(count, seed) for name, count, seed in (("train", 6000, 1), ("valid", 1500, 2), ("test", 1500, 3))}
prepare = Preprocessor().fit(tables["train"][0])
sets = {
    name: TensorDataset(prepare.transform(numeric), torch.from_numpy(plan), torch.from_numpy(months), torch.from_numpy(churned))
    for name, (numeric, plan, months, churned) in tables.items()
}
learner = Learner(
    DataLoader(sets["train"], batch_size=64, shuffle=True, drop_last=True),
    DataLoader(sets["valid"], batch_size=500),
    ChurnNet(columns=tables["train"][0].shape[1]),
    cox_loss,
    concordance,
    lr=3e-3,
    callbacks=[OneCycle(), Progress(), KeepBest()],
)
learner.fit(40)
print(f"test C-index {learner.validate(DataLoader(sets['test'], batch_size=500)):.4f}")
