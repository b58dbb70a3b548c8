# %% [markdown]
# # House prices: a small MLP, 5 folds, out-of-fold score and averaged test predictions

# %%
import random

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

from toydata import houses


def seed_everything(seed=2023):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything()

# %%
COLUMNS = ["area", "distance", "rooms", "floor", "angle", "age", "tax", "noise"]
UNITS = np.array([35.0, 4.0, 1.5, 3.0, 1.0, 20.0, 800.0, 10.0])
CENTER = np.array([120.0, 12.0, 4.0, 5.0, 0.0, 40.0, 3000.0, 50.0])


def load(count, seed):
    features, price = houses(count=count, seed=seed)
    frame = pd.DataFrame(features.numpy() * UNITS + CENTER, columns=COLUMNS)
    frame["price"] = price.numpy()
    return frame


train = load(1000, seed=0)
test = load(300, seed=99)
print(train.describe().T[["mean", "std", "min", "max"]].round(1))

# %%
N_FOLDS = 5
EPOCHS = 60
BATCH = 50
LR = 5e-3


def build_model(n_features):
    return nn.Sequential(
        nn.Linear(n_features, 64),
        nn.SiLU(),
        nn.Linear(64, 64),
        nn.SiLU(),
        nn.Linear(64, 1),
    )


def train_fold(model, x, y):
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
    loss_fn = nn.MSELoss()
    model.train()
    for epoch in range(EPOCHS):
        total = 0.0
        for idx in torch.randperm(len(x)).split(BATCH):
            loss = loss_fn(model(x[idx]).squeeze(1), y[idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(idx)
        scheduler.step()
    return total / len(x)


@torch.no_grad()
def predict(model, x):
    model.eval()
    return model(torch.from_numpy(x)).squeeze(1).numpy()


# %%
X, y = train[COLUMNS].to_numpy(), train["price"].to_numpy()
X_test, y_test = test[COLUMNS].to_numpy(), test["price"].to_numpy()
oof = np.zeros(len(train))
test_pred = np.zeros(len(test))

for fold, (tr, va) in enumerate(KFold(N_FOLDS, shuffle=True, random_state=7).split(X)):
    scaler = StandardScaler().fit(X[tr])
    x_tr = scaler.transform(X[tr]).astype(np.float32)
    x_va = scaler.transform(X[va]).astype(np.float32)
    x_te = scaler.transform(X_test).astype(np.float32)
    mu, sigma = y[tr].mean(), y[tr].std()
    y_tr = ((y[tr] - mu) / sigma).astype(np.float32)

    model = build_model(x_tr.shape[1])
    train_loss = train_fold(model, x_tr, y_tr)
    oof[va] = predict(model, x_va) * sigma + mu
    test_pred += (predict(model, x_te) * sigma + mu) / N_FOLDS
    rmse = mean_squared_error(y[va], oof[va]) ** 0.5
    print(f"fold {fold}: train rmse {train_loss ** 0.5 * sigma:6.2f}   valid rmse {rmse:6.2f}")

# %%
print(f"OOF   rmse {mean_squared_error(y, oof) ** 0.5:.2f}   R2 {r2_score(y, oof):.4f}")
print(f"test  rmse {mean_squared_error(y_test, test_pred) ** 0.5:.2f}   R2 {r2_score(y_test, test_pred):.4f}")
submission = pd.DataFrame({"id": np.arange(len(test)), "price": test_pred})
print(submission.head())
