# %% [markdown]
# # House prices: MLP, 4 folds, small grid
# %%
import random

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.model_selection import KFold, train_test_split
from sklearn.preprocessing import StandardScaler

import toydata


class CFG:
    seed = 2024
    folds = 4
    epochs = 40
    batch = 48
    grid = [dict(width=32, lr=4e-3), dict(width=96, lr=4e-3)]


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG.seed)

# %%
X, y = toydata.houses(count=1000)
X, y = X.numpy(), y.numpy()
dev_idx, test_idx = train_test_split(np.arange(len(X)), test_size=0.2, random_state=CFG.seed)
X_dev, y_dev = X[dev_idx], y[dev_idx]
X_test, y_test = X[test_idx], y[test_idx]
print("dev", X_dev.shape, "test", X_test.shape)


# %%
class Regressor:
    """fit / predict in the manner of scikit-learn; prices are brought to unit variance inside."""

    def __init__(self, width, lr):
        self.width, self.lr = width, lr

    def fit(self, X, y):
        self.x_scaler = StandardScaler().fit(X)
        self.y_scaler = StandardScaler().fit(y[:, None])
        xs = torch.tensor(self.x_scaler.transform(X), dtype=torch.float32)
        ys = torch.tensor(self.y_scaler.transform(y[:, None]), dtype=torch.float32)
        self.net = nn.Sequential(
            nn.Linear(xs.shape[1], self.width),
            nn.SiLU(),
            nn.Linear(self.width, self.width),
            nn.SiLU(),
            nn.Linear(self.width, 1),
        )
        opt = torch.optim.AdamW(self.net.parameters(), lr=self.lr, weight_decay=1e-2)
        steps = CFG.epochs * (len(xs) // CFG.batch)
        sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=steps, eta_min=self.lr / 50)
        loss_fn = nn.MSELoss()
        self.history = []
        self.net.train()
        for _ in range(CFG.epochs):
            order = torch.randperm(len(xs))
            total = 0.0
            for b in range(len(xs) // CFG.batch):
                rows = order[b * CFG.batch : (b + 1) * CFG.batch]
                opt.zero_grad(set_to_none=True)
                loss = loss_fn(self.net(xs[rows]), ys[rows])
                loss.backward()
                opt.step()
                sched.step()
                total += loss.item()
            self.history.append(total / (len(xs) // CFG.batch))
        return self

    @torch.no_grad()
    def predict(self, X):
        self.net.eval()
        out = self.net(torch.tensor(self.x_scaler.transform(X), dtype=torch.float32))
        return self.y_scaler.inverse_transform(out.numpy())[:, 0]


# %%
results = []
for params in CFG.grid:
    oof = np.zeros_like(y_dev)
    kf = KFold(n_splits=CFG.folds, shuffle=True, random_state=CFG.seed)
    for fold, (tr, va) in enumerate(kf.split(X_dev)):
        model = Regressor(**params).fit(X_dev[tr], y_dev[tr])
        oof[va] = model.predict(X_dev[va])
        rmse = mean_squared_error(y_dev[va], oof[va]) ** 0.5
        print(f"{params} fold {fold}: train loss {model.history[-1]:.4f}, RMSE {rmse:.2f}")
    cv = mean_squared_error(y_dev, oof) ** 0.5
    print(f"{params}: CV RMSE {cv:.2f}, R2 {r2_score(y_dev, oof):.4f}")
    results.append((cv, params))

# %%
best_cv, best_params = min(results, key=lambda pair: pair[0])
print("best", best_params, f"{best_cv:.2f}")
final = Regressor(**best_params).fit(X_dev, y_dev)
pred = final.predict(X_test)
print(f"test RMSE {mean_squared_error(y_test, pred) ** 0.5:.2f}, R2 {r2_score(y_test, pred):.4f}")
