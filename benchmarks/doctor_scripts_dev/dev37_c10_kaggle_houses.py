# House prices: MLP, K folds, averaged predictions  |  public kernel style
import copy
import random

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.model_selection import KFold, train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

import toydata

SEED = 42
N_FOLDS = 3
EPOCHS = 80
BATCH_SIZE = 64
LR = 3e-3


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(SEED)

# ------------------------------------------------------------------ load
X, price = toydata.houses(1600, seed=0)
FEATURES = ["area", "age", "rooms", "light", "distance", "noise", "garden", "floor"]
df = pd.DataFrame(X.numpy(), columns=FEATURES)
df["price"] = price.numpy()
train_df, test_df = train_test_split(df, test_size=0.2, random_state=SEED)
train_df, test_df = train_df.reset_index(drop=True), test_df.reset_index(drop=True)
print(train_df.describe().T[["mean", "std", "min", "max"]])


# ------------------------------------------------------------------ model
class HouseNet(nn.Module):
    def __init__(self, n_in, hidden=64):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(n_in, hidden), nn.SiLU(),
            nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.net(x).squeeze(-1)


def as_tensor(values):
    return torch.tensor(np.asarray(values), dtype=torch.float32)


def rmse(truth, guess):
    return float(np.sqrt(mean_squared_error(truth, guess)))


# ------------------------------------------------------------------ one fold
def run_fold(fold, tr, va, te):
    x_scaler = StandardScaler().fit(tr[FEATURES].to_numpy())
    x_tr, x_va, x_te = (as_tensor(x_scaler.transform(part[FEATURES].to_numpy())) for part in (tr, va, te))
    y_tr = as_tensor(tr["price"])
    y_mean, y_std = y_tr.mean().item(), y_tr.std().item()

    model = HouseNet(len(FEATURES))
    target = (y_tr - y_mean) / y_std
    loader = DataLoader(TensorDataset(x_tr, target), batch_size=BATCH_SIZE, shuffle=True)
    criterion = nn.MSELoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS, eta_min=1e-4)

    def predict(x):
        model.eval()
        with torch.no_grad():
            return (model(x) * y_std + y_mean).numpy()

    best_score, best_state = np.inf, None
    for epoch in range(EPOCHS):
        model.train()
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = criterion(model(xb), yb)
            loss.backward()
            optimizer.step()
        scheduler.step()
        score = rmse(va["price"], predict(x_va))
        if score < best_score:
            best_score, best_state = score, copy.deepcopy(model.state_dict())
        if (epoch + 1) % 20 == 0:
            print(f"fold {fold} epoch {epoch + 1:3d}: valid RMSE {score:.2f} (best {best_score:.2f})")

    model.load_state_dict(best_state)
    return predict(x_va), predict(x_te)


# ------------------------------------------------------------------ all folds
oof = np.zeros(len(train_df))
test_pred = np.zeros(len(test_df))
folds = KFold(n_splits=N_FOLDS, shuffle=True, random_state=SEED)
for fold, (tr_idx, va_idx) in enumerate(folds.split(train_df)):
    seed_everything(SEED + fold)
    oof[va_idx], fold_test = run_fold(fold, train_df.iloc[tr_idx], train_df.iloc[va_idx], test_df)
    test_pred += fold_test / N_FOLDS

print(f"OOF  RMSE {rmse(train_df['price'], oof):.2f}   R2 {r2_score(train_df['price'], oof):.4f}")
print(f"TEST RMSE {rmse(test_df['price'], test_pred):.2f}   R2 {r2_score(test_df['price'], test_pred):.4f}")
