# %% [markdown]
# # House prices: 5-fold MLP, out-of-fold score, fold-averaged submission

# %%
import os
import random
import tempfile

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.model_selection import KFold
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses

SEED, N_FOLDS, EPOCHS, BATCH, LR = 42, 5, 24, 64, 4e-3


def seed_everything(seed):
    random.seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(SEED)

# %%
X, y = houses(1600, seed=0)
train_df = pd.DataFrame(X.numpy(), columns=[f"f{i}" for i in range(8)]).assign(price=y.numpy())
X_test, y_test = houses(300, seed=1)
test_df = pd.DataFrame(X_test.numpy(), columns=[f"f{i}" for i in range(8)])
FEATURES = [c for c in train_df.columns if c != "price"]
print(train_df.describe().T[["mean", "std"]])


# %%
class Net(nn.Module):
    def __init__(self, n_in):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_in, 64), nn.SiLU(),
            nn.Linear(64, 64), nn.SiLU(),
            nn.Linear(64, 1),
        )

    def forward(self, x):
        return self.layers(x).squeeze(1)


def run_fold(fold, tr, va):
    x_tr = torch.tensor(train_df.loc[tr, FEATURES].values, dtype=torch.float32)
    x_va = torch.tensor(train_df.loc[va, FEATURES].values, dtype=torch.float32)
    x_te = torch.tensor(test_df[FEATURES].values, dtype=torch.float32)
    y_tr = torch.tensor(train_df.loc[tr, "price"].values, dtype=torch.float32)
    y_va = train_df.loc[va, "price"].values

    mu, sd = x_tr.mean(0), x_tr.std(0)
    x_tr, x_va, x_te = (x_tr - mu) / sd, (x_va - mu) / sd, (x_te - mu) / sd
    y_mu, y_sd = y_tr.mean(), y_tr.std()

    net = Net(len(FEATURES))
    loader = DataLoader(TensorDataset(x_tr, y_tr), batch_size=BATCH, shuffle=True)
    opt = torch.optim.AdamW(net.parameters(), lr=LR, weight_decay=1e-2)
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=LR, total_steps=EPOCHS * len(loader))

    for epoch in range(EPOCHS):
        net.train()
        running, seen = torch.zeros(()), 0
        for xb, yb in loader:
            opt.zero_grad()
            loss = F.mse_loss(net(xb), (yb - y_mu) / y_sd)
            loss.backward()
            opt.step()
            sched.step()
            running += loss.detach() * len(xb)
            seen += len(xb)
        if epoch % 6 == 5:
            print(f"fold {fold} epoch {epoch + 1:2d} train mse (scaled) {running.item() / seen:.4f}")

    net.eval()
    with torch.no_grad():
        p_va = (net(x_va) * y_sd + y_mu).numpy()
        p_te = (net(x_te) * y_sd + y_mu).numpy()
    print(f"fold {fold} RMSE {mean_squared_error(y_va, p_va) ** 0.5:.3f}")
    return p_va, p_te


# %%
oof = np.zeros(len(train_df))
submission = np.zeros(len(test_df))
folds = KFold(n_splits=N_FOLDS, shuffle=True, random_state=SEED)
for fold, (tr, va) in enumerate(folds.split(train_df)):
    oof[va], fold_test = run_fold(fold, tr, va)
    submission += fold_test / N_FOLDS

print(f"CV RMSE {mean_squared_error(train_df.price, oof) ** 0.5:.3f}  R2 {r2_score(train_df.price, oof):.4f}")

# %%
test_df["price"] = submission
test_df[["price"]].to_csv(os.path.join(tempfile.mkdtemp(), "submission.csv"), index_label="id")
print(f"private leaderboard RMSE {mean_squared_error(y_test.numpy(), submission) ** 0.5:.3f}")
