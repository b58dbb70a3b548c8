# %% [markdown]
# # House prices: five folds, two seeds, bfloat16 inside the hidden layers
# Scalers are fitted inside each fold. The score is that of the out-of-fold predictions.

# %%
import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler
from torch import nn

import toydata

N_SPLITS = 5
SEEDS = (0, 1)
EPOCHS = 30
BATCH = 64
LR = 8e-3

features, price = toydata.houses(800)
X, y = features.numpy(), price.numpy()
print(f"{X.shape[0]} houses, {X.shape[1]} features, prices {y.mean():.0f} +- {y.std():.0f} thousand")


# %%
class PriceNet(nn.Module):
    """The trunk computes in bfloat16, the weights and the last layer stay in float32."""

    def __init__(self, n_in, width=64):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(n_in, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.head = nn.Linear(width, 1)

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = self.trunk(x)
        return self.head(hidden.float()).squeeze(1)


def train_one(x_tr, y_tr, seed):
    torch.manual_seed(seed)
    net = PriceNet(x_tr.shape[1])
    steps = len(x_tr) // BATCH
    optimizer = torch.optim.AdamW(net.parameters(), lr=LR, weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LR, total_steps=EPOCHS * steps)
    criterion = nn.SmoothL1Loss(beta=0.5)
    net.train()
    for _ in range(EPOCHS):
        order = torch.randperm(len(x_tr))
        for rows in order[: steps * BATCH].split(BATCH):
            optimizer.zero_grad()
            loss = criterion(net(x_tr[rows]), y_tr[rows])
            loss.backward()
            optimizer.step()
            scheduler.step()
    return net


@torch.no_grad()
def predict(net, x):
    net.eval()
    return net(x).numpy()


# %%
oof, oof_ridge = np.zeros_like(y), np.zeros_like(y)
folds = KFold(n_splits=N_SPLITS, shuffle=True, random_state=2021)
for fold, (tr, va) in enumerate(folds.split(X)):
    x_scaler, y_scaler = StandardScaler().fit(X[tr]), StandardScaler().fit(y[tr, None])
    x_tr = torch.from_numpy(x_scaler.transform(X[tr])).float()
    x_va = torch.from_numpy(x_scaler.transform(X[va])).float()
    y_tr = torch.from_numpy(y_scaler.transform(y[tr, None])[:, 0]).float()

    for seed in SEEDS:
        net = train_one(x_tr, y_tr, seed=100 * fold + seed)
        scaled = predict(net, x_va)
        oof[va] += y_scaler.inverse_transform(scaled[:, None])[:, 0] / len(SEEDS)

    oof_ridge[va] = RidgeCV().fit(X[tr], y[tr]).predict(X[va])
    rmse = np.sqrt(mean_squared_error(y[va], oof[va]))
    print(f"fold {fold}: RMSE {rmse:6.2f}   ridge {np.sqrt(mean_squared_error(y[va], oof_ridge[va])):6.2f}")

# %%
print(f"out of fold: RMSE {np.sqrt(mean_squared_error(y, oof)):.2f}, R2 {r2_score(y, oof):.4f}")
print(f"ridge:       RMSE {np.sqrt(mean_squared_error(y, oof_ridge)):.2f}, R2 {r2_score(y, oof_ridge):.4f}")
