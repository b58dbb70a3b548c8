# %% [markdown]
# # Risk bands: entity embeddings + MLP
# Three categorical and four numeric columns, three bands of risk.

# %%
import math

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset


class CFG:
    seed = 42
    n_rows = 1900
    n_valid = 400
    cards = [6, 8, 4]
    emb_dims = [4, 4, 3]
    hidden = 64
    dropout = 0.1
    lr = 4e-3
    min_lr = 4e-4
    weight_decay = 1e-4
    batch_size = 64
    t_max = 600


# %%
def load_frame(cfg):
    rng = np.random.default_rng(cfg.seed)
    n = cfg.n_rows
    cats = np.stack([rng.integers(0, c, n) for c in cfg.cards], axis=1)
    age = rng.uniform(18, 75, n)
    income = np.where(rng.random(n) < 0.08, 0.0, rng.lognormal(10.3, 0.5, n))
    tenure = rng.gamma(2.0, 3.0, n)
    balance = rng.normal(1500, 700, n)
    effects = [np.linspace(-1.2, 1.2, c)[rng.permutation(c)] for c in cfg.cards]
    risk = sum(e[cats[:, j]] for j, e in enumerate(effects))
    risk = risk - 0.9 * (age - 46) / 16 + 0.7 * (balance - 1500) / 700 - 0.1 * (tenure - 6)
    risk = risk - 0.15 * (np.log1p(income) - 9.5) + 0.2 * rng.normal(size=n)
    band = np.digitize(risk, np.quantile(risk, [1 / 3, 2 / 3]))
    return cats, np.stack([age, income, tenure, balance], axis=1), band


def preprocess(cfg):
    cats, nums, band = load_frame(cfg)
    nums[:, 1] = np.log1p(nums[:, 1])

    order = np.random.default_rng(cfg.seed + 1).permutation(len(band))
    cats, nums, band = cats[order], nums[order], band[order]
    nums_tr, nums_va = nums[cfg.n_valid :], nums[: cfg.n_valid]
    mean, std = nums_tr.mean(0), nums_tr.std(0)
    nums_tr = (nums_tr - mean) / std
    nums_va = (nums_va - mean) / std

    def pack(c, x, y):
        rows = torch.tensor(np.concatenate([c, x], axis=1), dtype=torch.float32)
        return TensorDataset(rows, torch.tensor(y, dtype=torch.long))

    train_ds = pack(cats[cfg.n_valid :], nums_tr, band[cfg.n_valid :])
    valid_ds = pack(cats[: cfg.n_valid], nums_va, band[: cfg.n_valid])
    return train_ds, valid_ds


# %%
class TabularNet(nn.Module):
    def __init__(self, cfg, n_num=4, n_out=3):
        super().__init__()
        self.embs = nn.ModuleList([nn.Embedding(c, d) for c, d in zip(cfg.cards, cfg.emb_dims)])
        width = sum(cfg.emb_dims) + n_num
        self.mlp = nn.Sequential(
            nn.Linear(width, cfg.hidden),
            nn.BatchNorm1d(cfg.hidden),
            nn.ReLU(),
            nn.Dropout(cfg.dropout),
            nn.Linear(cfg.hidden, cfg.hidden // 2),
            nn.ReLU(),
            nn.Linear(cfg.hidden // 2, n_out),
        )

    def forward(self, rows):
        cat, num = rows[:, : len(self.embs)].long(), rows[:, len(self.embs) :]
        parts = [emb(cat[:, j]) for j, emb in enumerate(self.embs)]
        return self.mlp(torch.cat(parts + [num], dim=1))


# %%
def train_fn(model, batch, optimizer, loss):
    rows, target = batch
    model.train()
    group = optimizer.param_groups[0]
    group["it"] = group.get("it", 0) + 1
    t = min(group["it"] / CFG.t_max, 1.0)
    group["lr"] = CFG.min_lr + 0.5 * (CFG.lr - CFG.min_lr) * (1 + math.cos(math.pi * t))

    optimizer.zero_grad()
    value = loss(model(rows), target)
    value.backward()
    optimizer.step()
    return value


# %%
def setup():
    torch.manual_seed(CFG.seed)
    train_ds, valid_ds = preprocess(CFG)
    model = TabularNet(CFG)
    train_dl = DataLoader(train_ds, batch_size=CFG.batch_size, shuffle=True, drop_last=True)
    valid_dl = DataLoader(valid_ds, batch_size=128, shuffle=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    return dict(
        model=model, train=train_dl, val=valid_dl, loss=nn.CrossEntropyLoss(), optimizer=optimizer, step=train_fn
    )
