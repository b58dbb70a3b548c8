#!/usr/bin/env python
# coding: utf-8

# # House prices: MLP with embeddings, 4 folds
# A simple baseline. Out-of-fold RMSE is in thousands.

# In[1]:


import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler
from sklearn.utils import shuffle
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses


class CFG:
    seed = 42
    n_folds = 4
    epochs = 12
    batch_size = 64
    lr = 5e-3
    weight_decay = 1e-3
    hidden = 128
    dropout = 0.05


np.random.seed(CFG.seed)
torch.manual_seed(CFG.seed)


# ## Load the table
# One row is one sale, in the order of the land registry (by price band).

# In[2]:


def read_sales(n_rows):
    z, price = houses(n_rows, seed=7)
    z, price = z.numpy(), price.numpy()
    rng = np.random.default_rng(7)
    hood = rng.integers(0, 8, n_rows)
    price = price + rng.normal(0, 10, n_rows).astype(np.float32)
    price = price + np.array([-30, -20, -12, -4, 4, 12, 20, 30], dtype=np.float32)[hood]
    table = {
        "area": 120 + 25 * z[:, 0],
        "age": 40 + 11 * z[:, 1],
        "distance": 8 + 2 * z[:, 2],
        "noise_level": 55 + 6 * z[:, 3],
        "orientation": 180 + 45 * z[:, 4],
        "floor": 3 + z[:, 5],
        "energy": 100 + 20 * z[:, 6],
        "garden": 300 + 80 * z[:, 7],
        "neighborhood": hood,
        "transfer_tax": 35 * price + rng.normal(0, 20, n_rows),
        "price": price,
    }
    order = np.argsort(price // 50, kind="stable")
    return {name: column[order] for name, column in table.items()}


sales = read_sales(4800)
drop = ["price", "neighborhood", "transfer_tax"]
features = [name for name in sales if name not in drop]
X = np.stack([sales[name] for name in features], axis=1).astype(np.float32)
hood = sales["neighborhood"].astype(np.int64)
y = sales["price"].astype(np.float32)
X, hood, y = shuffle(X, hood, y, random_state=CFG.seed)
print(len(X), "rows", features)

# the last rows are the private test set
X, X_test = X[:4000], X[4000:]
hood, hood_test = hood[:4000], hood[4000:]
y, y_test = y[:4000], y[4000:]


# ## Model

# In[3]:


class HouseNet(nn.Module):
    def __init__(self, n_features, n_hoods=8, emb_dim=4):
        super().__init__()
        self.emb = nn.Embedding(n_hoods, emb_dim)
        self.mlp = nn.Sequential(
            nn.Linear(n_features + emb_dim, CFG.hidden),
            nn.ReLU(),
            nn.Dropout(CFG.dropout),
            nn.Linear(CFG.hidden, CFG.hidden),
            nn.ReLU(),
            nn.Dropout(CFG.dropout),
            nn.Linear(CFG.hidden, 1),
        )

    def forward(self, x, hood):
        return self.mlp(torch.cat([x, self.emb(hood)], dim=1)).squeeze(1)


def predict(model, x, hood):
    model.eval()
    with torch.no_grad():
        return model(torch.from_numpy(x), torch.from_numpy(hood)).numpy().ravel()


def rmse(a, b):
    return float(np.sqrt(mean_squared_error(a, b)))


# ## Folds

# In[4]:


oof = np.zeros(len(X), dtype=np.float32)
test_pred = np.zeros(len(X_test), dtype=np.float32)
kfold = KFold(n_splits=CFG.n_folds, shuffle=True, random_state=CFG.seed)
criterion = nn.MSELoss()

for fold, (trn_idx, val_idx) in enumerate(kfold.split(X)):
    scaler = StandardScaler().fit(X[trn_idx])
    x_trn, x_val = scaler.transform(X[trn_idx]), scaler.transform(X[val_idx])
    y_mean, y_std = y[trn_idx].mean(), y[trn_idx].std()
    t_trn = (y[trn_idx] - y_mean) / y_std

    dataset = TensorDataset(torch.from_numpy(x_trn), torch.from_numpy(hood[trn_idx]), torch.from_numpy(t_trn))
    loader = DataLoader(dataset, batch_size=CFG.batch_size, shuffle=True)
    model = HouseNet(len(features))
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=CFG.epochs * len(loader))

    for epoch in range(CFG.epochs):
        model.train()
        running = 0.0
        for xb, hb, tb in loader:
            optimizer.zero_grad()
            loss = criterion(model(xb, hb), tb)
            loss.backward()
            optimizer.step()
            scheduler.step()
            running += loss.item() * len(xb)
        if (epoch + 1) % 4 == 0:
            val_rmse = rmse(y[val_idx], predict(model, x_val, hood[val_idx]) * y_std + y_mean)
            print(f"fold {fold} epoch {epoch + 1:2d} loss {running / len(dataset):.4f} val rmse {val_rmse:.2f}")

    oof[val_idx] = predict(model, x_val, hood[val_idx]) * y_std + y_mean
    test_pred += (predict(model, scaler.transform(X_test), hood_test) * y_std + y_mean) / CFG.n_folds
    print(f"fold {fold} rmse {rmse(y[val_idx], oof[val_idx]):.2f}")


# In[5]:


print(f"OOF  rmse {rmse(y, oof):.2f}  R2 {r2_score(y, oof):.4f}   (std of price {y.std():.1f})")
print(f"test rmse {rmse(y_test, test_pred):.2f}  R2 {r2_score(y_test, test_pred):.4f}")
