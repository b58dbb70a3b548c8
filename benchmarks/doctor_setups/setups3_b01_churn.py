"""Notebook: churn playground, entity embeddings + MLP (single fold, LB 0.87)."""

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, Dataset


class CFG:
    seed = 42
    emb_dim = 4
    hidden = [64, 32]
    dropout = 0.1
    batch_size = 64
    lr = 3e-3
    weight_decay = 1e-2
    n_train, n_valid = 1500, 400


CATS = {"contract": 3, "payment": 4, "plan": 30}
TARGET = "churn"


def read_frame(n, seed):
    """Stands for pd.read_csv: a column name -> array."""
    effects = np.random.default_rng(7)
    plan_effect = effects.normal(0, 1.5, CATS["plan"])
    payment_effect = effects.normal(0, 0.7, CATS["payment"])
    rng = np.random.default_rng(seed)
    df = {name: rng.integers(0, cardinality, n) for name, cardinality in CATS.items()}
    df["tenure"] = rng.gamma(2.0, 14.0, n)
    df["monthly_charges"] = rng.normal(70.0, 25.0, n)
    df["support_calls"] = rng.poisson(1.5, n).astype(float)
    df["total_gb"] = rng.normal(400.0, 150.0, n)
    score = plan_effect[df["plan"]] + payment_effect[df["payment"]] - 0.8 * (df["contract"] - 1)
    score = score - 0.04 * (df["tenure"] - 28) + 0.03 * (df["monthly_charges"] - 70)
    score = score + 0.5 * (df["support_calls"] - 1.5) + rng.logistic(0, 0.3, n)
    df[TARGET] = (score > 0).astype(float)
    return df


def columns(df, names):
    return np.stack([df[name] for name in names], axis=1)


class ChurnDataset(Dataset):
    def __init__(self, cats, nums, target):
        self.x = np.concatenate([cats, nums], axis=1).astype(np.float32)
        self.y = target.astype(np.float32)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return torch.from_numpy(self.x[i]), torch.tensor(self.y[i])


class ChurnNet(nn.Module):
    """The first columns are category codes, the others numbers."""

    def __init__(self, cardinalities, n_nums):
        super().__init__()
        self.n_cats = len(cardinalities)
        self.embeddings = nn.ModuleList([nn.Embedding(c, CFG.emb_dim) for c in cardinalities])
        layers, width = [], self.n_cats * CFG.emb_dim + n_nums
        for hidden in CFG.hidden:
            layers += [nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(CFG.dropout)]
            width = hidden
        self.mlp = nn.Sequential(*layers)
        self.head = nn.Linear(width, 1)

    def forward(self, x):
        cats, nums = x[:, : self.n_cats].long(), x[:, self.n_cats :]
        embedded = [embedding(cats[:, i]) for i, embedding in enumerate(self.embeddings)]
        h = self.mlp(torch.cat(embedded + [nums], dim=1))
        return self.head(h).squeeze(-1)


def setup():
    torch.manual_seed(CFG.seed)
    train_df, valid_df = read_frame(CFG.n_train, seed=1), read_frame(CFG.n_valid, seed=2)
    cat_cols = list(CATS)
    num_cols = [c for c in train_df if c not in cat_cols and c != TARGET]

    scaler = StandardScaler()
    train_nums = scaler.fit_transform(columns(train_df, num_cols))
    valid_nums = scaler.transform(columns(valid_df, num_cols))

    train_ds = ChurnDataset(columns(train_df, cat_cols), train_nums, train_df[TARGET])
    valid_ds = ChurnDataset(columns(valid_df, cat_cols), valid_nums, valid_df[TARGET])

    return {
        "model": ChurnNet([CATS[c] for c in cat_cols], len(num_cols)),
        "train": DataLoader(train_ds, batch_size=CFG.batch_size, shuffle=True, drop_last=True),
        "val": DataLoader(valid_ds, batch_size=200, shuffle=False),
        "loss": nn.BCEWithLogitsLoss(),
        "optimizer": lambda params: torch.optim.AdamW(params, lr=CFG.lr, weight_decay=CFG.weight_decay),
        "task": "classify",
    }
