"""Playground series: customer churn. Entity embeddings + MLP, single fold of the notebook."""
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset


class CFG:
    seed = 42
    n_rows = 1800
    batch_size = 64
    lr = 1e-3
    weight_decay = 1e-5
    dropout = 0.2
    hidden = (64, 32)
    max_grad_norm = 5.0


CAT_COLS = {"plan": 4, "region": 8, "device": 5}
NUM_COLS = ["tenure", "monthly_fee", "support_calls", "age"]


# In [2]: the competition csv. `exit_score` comes from the survey that customers fill in after they cancel.
def load_table():
    rng = np.random.default_rng(CFG.seed)
    n = CFG.n_rows
    df = {name: rng.integers(0, size, n) for name, size in CAT_COLS.items()}
    df["tenure"] = rng.gamma(3.0, 8.0, n)
    df["monthly_fee"] = rng.normal(50.0, 15.0, n)
    df["support_calls"] = rng.poisson(2.0, n).astype(float)
    df["age"] = rng.uniform(18, 80, n)
    plan, region = np.array([1.2, 0.3, -0.4, -1.1]), rng.normal(0.0, 0.7, 8)
    logit = plan[df["plan"]] + region[df["region"]] - 0.06 * (df["tenure"] - 24)
    logit = logit + 0.05 * (df["monthly_fee"] - 50) + 0.5 * (df["support_calls"] - 2) - 0.4
    df["churn"] = (rng.random(n) < 1 / (1 + np.exp(-1.5 * logit))).astype(float)
    df["exit_score"] = np.where(df["churn"] == 1, rng.normal(4.0, 0.6, n), rng.normal(0.0, 0.6, n))
    return df


# In [3]
class ChurnDataset(Dataset):
    def __init__(self, cats, nums, target):
        self.x = torch.tensor(np.concatenate([cats, nums], axis=1), dtype=torch.float32)
        self.y = torch.tensor(target, dtype=torch.float32)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, idx):
        return self.x[idx], self.y[idx]


# In [4]
class TabularModel(nn.Module):
    def __init__(self, cardinalities, n_num):
        super().__init__()
        self.n_cat = len(cardinalities)
        self.embeds = nn.ModuleList([nn.Embedding(c, min(50, (c + 1) // 2)) for c in cardinalities])
        width = sum(e.embedding_dim for e in self.embeds) + n_num
        layers = []
        for h in CFG.hidden:
            layers += [nn.Linear(width, h), nn.BatchNorm1d(h), nn.ReLU(), nn.Dropout(CFG.dropout)]
            width = h
        self.mlp = nn.Sequential(*layers)
        self.head = nn.Linear(width, 1)

    def forward(self, x):
        cats, nums = x[:, : self.n_cat].long(), x[:, self.n_cat :]
        emb = [e(cats[:, i]) for i, e in enumerate(self.embeds)]
        out = self.mlp(torch.cat(emb + [nums], dim=1))
        return self.head(out).squeeze(1)


# In [5]
def train_one_batch(model, batch, optimizer, criterion):
    model.train()
    x, y = batch
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), CFG.max_grad_norm)
    optimizer.step()
    return loss


# In [6]
def setup():
    torch.manual_seed(CFG.seed)
    df = load_table()
    cats = np.stack([df[c] for c in CAT_COLS], axis=1).astype(np.float32)
    nums = np.stack([df[c] for c in NUM_COLS], axis=1).astype(np.float32)
    target = df["churn"]

    folds = np.random.default_rng(CFG.seed + 1).permutation(CFG.n_rows) % 5
    tr_idx, va_idx = np.where(folds != 0)[0], np.where(folds == 0)[0]
    mean, std = nums[tr_idx].mean(0), nums[tr_idx].std(0)
    x_tr = (nums[tr_idx] - mean) / std
    x_va = (nums[va_idx] - mean) / std

    train = DataLoader(ChurnDataset(cats[tr_idx], x_tr, target[tr_idx]), batch_size=CFG.batch_size, shuffle=True, drop_last=True)
    val = DataLoader(ChurnDataset(cats[va_idx], x_va, target[va_idx]), batch_size=256)
    model = TabularModel(list(CAT_COLS.values()), len(NUM_COLS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    return dict(model=model, train=train, val=val, loss=nn.BCEWithLogitsLoss(), optimizer=optimizer, step=train_one_batch, task="classify")
