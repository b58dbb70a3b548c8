# %% [markdown]
# # Fleet claims: entity embeddings + Poisson regression with an exposure offset
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

# %%
CFG = dict(seed=42, n_rows=2000, n_train=1600, batch_size=64, emb_dim=4, hidden=64, lr=3e-3, weight_decay=1e-4)
CATS = {"VehBrand": 8, "Region": 12, "VehGas": 2}
TARGET, OFFSET = "ClaimNb", "Exposure"


def seed_everything(seed):
    np.random.seed(seed)
    torch.manual_seed(seed)


# %%
def load_frame(n, seed):
    rng = np.random.default_rng(seed)
    df = {name: rng.integers(0, size, n) for name, size in CATS.items()}
    df["DrivAge"] = rng.integers(18, 85, n).astype(np.float64)
    df["VehPower"] = rng.uniform(40, 200, n)
    df["BonusMalus"] = rng.uniform(50, 150, n)
    df["LogDensity"] = rng.normal(6.0, 1.2, n)
    df[OFFSET] = rng.uniform(0.2, 1.0, n)
    brand = rng.permutation(np.linspace(-0.6, 0.6, CATS["VehBrand"]))
    region = rng.permutation(np.linspace(-0.7, 0.7, CATS["Region"]))
    log_rate = 1.2 + brand[df["VehBrand"]] + region[df["Region"]] + 0.15 * df["VehGas"]
    log_rate = log_rate + 0.012 * (df["BonusMalus"] - 100) + 0.35 * ((df["DrivAge"] - 50) / 20) ** 2
    log_rate = log_rate + 0.2 * (df["LogDensity"] - 6.0)
    df[TARGET] = rng.poisson(np.exp(log_rate) * df[OFFSET]).astype(np.float64)
    return df


def take(df, rows):
    return {name: column[rows] for name, column in df.items()}


def numeric_columns(df):
    return [c for c in df if c not in [*CATS, TARGET, OFFSET]]


def fit_scaler(df, nums):
    values = np.stack([df[c] for c in nums], 1)
    return values.mean(0), values.std(0)


def make_dataset(df, nums, mean, std):
    cat = np.stack([df[c] for c in CATS], 1)
    num = (np.stack([df[c] for c in nums], 1) - mean) / std
    offset = np.log(df[OFFSET])[:, None]
    x = torch.from_numpy(np.concatenate([cat, num, offset], 1)).float()
    y = torch.from_numpy(df[TARGET]).float()
    return TensorDataset(x, y)


# %%
class ClaimNet(nn.Module):
    def __init__(self, cardinalities, n_num, emb_dim, hidden):
        super().__init__()
        self.n_cat = len(cardinalities)
        self.embs = nn.ModuleList([nn.Embedding(size, emb_dim) for size in cardinalities])
        self.body = nn.Sequential(
            nn.Linear(self.n_cat * emb_dim + n_num, hidden),
            nn.ReLU(),
            nn.Dropout(0.05),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
        )
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        cat, num, log_exposure = x[:, : self.n_cat].long(), x[:, self.n_cat : -1], x[:, -1:]
        e = [emb(cat[:, i]) for i, emb in enumerate(self.embs)]
        h = self.body(torch.cat([*e, num], dim=1))
        log_mu = self.out(h) + log_exposure
        return log_mu.squeeze(1)


# %%
def setup():
    torch.manual_seed(CFG["seed"])
    seed_everything(CFG["seed"])
    df = load_frame(CFG["n_rows"], CFG["seed"])
    order = np.random.permutation(CFG["n_rows"])
    train_df, valid_df = take(df, order[: CFG["n_train"]]), take(df, order[CFG["n_train"] :])

    nums = numeric_columns(df)
    mean, std = fit_scaler(train_df, nums)
    train_ds = make_dataset(train_df, nums, mean, std)
    valid_ds = make_dataset(valid_df, nums, mean, std)
    train_dl = DataLoader(train_ds, batch_size=CFG["batch_size"], shuffle=True, drop_last=True)
    valid_dl = DataLoader(valid_ds, batch_size=2 * CFG["batch_size"])

    model = ClaimNet(list(CATS.values()), len(nums), CFG["emb_dim"], CFG["hidden"])
    criterion = nn.PoissonNLLLoss(log_input=True, full=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG["lr"], weight_decay=CFG["weight_decay"])
    return dict(model=model, train=train_dl, val=valid_dl, loss=criterion, optimizer=optimizer, task="regress")
