# House prices: 5-fold MLP, blended for the hidden test set
# ---------------------------------------------------------
import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.model_selection import KFold, train_test_split
from sklearn.preprocessing import StandardScaler

import toydata


class CFG:
    seed = 2021
    n_fold = 5
    epochs = 45
    batch_size = 48
    lr = 6e-3
    weight_decay = 1e-3
    hidden = 64


def seed_everything(seed):
    np.random.seed(seed)
    torch.manual_seed(seed)


def load_frame():
    features, price = toydata.houses(1000)
    df = pd.DataFrame(features.numpy(), columns=[f"f{i}" for i in range(features.shape[1])])
    df["price"] = price.numpy()
    return df


class TabularNet(nn.Module):
    def __init__(self, n_features):
        super().__init__()
        self.block1 = nn.Sequential(nn.Linear(n_features, CFG.hidden), nn.SiLU())
        self.block2 = nn.Sequential(nn.Linear(CFG.hidden, CFG.hidden), nn.SiLU())
        self.out = nn.Linear(n_features + CFG.hidden, 1)

    def forward(self, x):
        h = self.block2(self.block1(x))
        return self.out(torch.cat([x, h], dim=1)).squeeze(1)


class Pipeline:
    """Scalers and network together, so that no statistics come from rows that were not fitted."""

    def __init__(self):
        self.x_scaler, self.y_scaler = StandardScaler(), StandardScaler()

    def fit(self, X, y):
        Xs = torch.tensor(self.x_scaler.fit_transform(X), dtype=torch.float32)
        ys = torch.tensor(self.y_scaler.fit_transform(y.reshape(-1, 1)).ravel(), dtype=torch.float32)
        self.model = TabularNet(X.shape[1])
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
        steps = -(-len(Xs) // CFG.batch_size) * CFG.epochs
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        criterion = nn.MSELoss()
        self.model.train()
        for epoch in range(CFG.epochs):
            running = 0.0
            for idx in torch.randperm(len(Xs)).split(CFG.batch_size):
                optimizer.zero_grad()
                loss = criterion(self.model(Xs[idx]), ys[idx])
                loss.backward()
                optimizer.step()
                scheduler.step()
                running += loss.detach() * len(idx)
            if (epoch + 1) % 15 == 0:
                print(f"    epoch {epoch + 1:2d}  scaled mse {float(running) / len(Xs):.4f}")
        return self

    def predict(self, X):
        self.model.eval()
        with torch.no_grad():
            scaled = self.model(torch.tensor(self.x_scaler.transform(X), dtype=torch.float32))
        return self.y_scaler.inverse_transform(scaled.numpy().reshape(-1, 1)).ravel()


def rmse(y_true, y_pred):
    return float(np.sqrt(mean_squared_error(y_true, y_pred)))


seed_everything(CFG.seed)
df = load_frame()
train_df, test_df = train_test_split(df, test_size=0.2, random_state=CFG.seed)
feature_cols = [c for c in df.columns if c != "price"]
X, y = train_df[feature_cols].to_numpy(), train_df["price"].to_numpy()
X_test, y_test = test_df[feature_cols].to_numpy(), test_df["price"].to_numpy()

oof = np.zeros(len(X))
fold_models = []
for fold, (trn_idx, val_idx) in enumerate(KFold(CFG.n_fold, shuffle=True, random_state=CFG.seed).split(X)):
    print(f"fold {fold}: {len(trn_idx)} rows to train, {len(val_idx)} to validate")
    pipe = Pipeline().fit(X[trn_idx], y[trn_idx])
    oof[val_idx] = pipe.predict(X[val_idx])
    print(f"    rmse {rmse(y[val_idx], oof[val_idx]):.2f}")
    fold_models.append(pipe)

print(f"CV rmse {rmse(y, oof):.2f}   CV r2 {r2_score(y, oof):.4f}")
test_pred = np.mean([pipe.predict(X_test) for pipe in fold_models], axis=0)
print(f"test rmse {rmse(y_test, test_pred):.2f}   test r2 {r2_score(y_test, test_pred):.4f}")
