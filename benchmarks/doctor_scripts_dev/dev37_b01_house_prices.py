# House prices: MLP baseline

import copy
import os
import random
import tempfile

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Dataset

from toydata import houses


class CFG:
    seed = 42
    rows = 1200
    n_folds = 3
    epochs = 50
    batch_size = 32
    lr = 5e-3
    gamma = 0.95
    weight_decay = 1e-4
    hidden = 64
    dropout = 0.05
    target = "price"


DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

COLUMNS = {
    "area": (140.0, 30.0),
    "age": (35.0, 10.0),
    "rooms": (4.0, 1.2),
    "light": (50.0, 15.0),
    "street": (7.0, 2.0),
    "floor": (3.0, 1.0),
    "distance": (2500.0, 700.0),
    "taxes": (800.0, 150.0),
}


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def read_frame():
    x, y = houses(CFG.rows, seed=CFG.seed)
    df = pd.DataFrame(x.numpy(), columns=list(COLUMNS))
    for name, (mean, spread) in COLUMNS.items():
        df[name] = mean + spread * df[name]
    df[CFG.target] = y.numpy()
    # twenty price bins, to stratify by
    df["bin"] = pd.qcut(df[CFG.target], 20, labels=False)
    return df


class HouseDataset(Dataset):
    def __init__(self, x, y=None):
        self.x = torch.tensor(x, dtype=torch.float32)
        self.y = None if y is None else torch.tensor(y, dtype=torch.float32)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        if self.y is None:
            return self.x[i]
        return self.x[i], self.y[i]


class HouseNet(nn.Module):
    def __init__(self, n_features, hidden=CFG.hidden, p=CFG.dropout):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(n_features, hidden), nn.BatchNorm1d(hidden), nn.SiLU(), nn.Dropout(p),
            nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.SiLU(), nn.Dropout(p),
        )
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        return self.out(self.body(x)).squeeze(-1)


def rmse_of(truth, pred):
    return float(np.sqrt(mean_squared_error(truth, pred)))


@torch.no_grad()
def predict(model, loader):
    model.eval()
    return np.concatenate([model(xb.to(DEVICE)).cpu().numpy().ravel() for xb in loader])


def run_fold(fold, x_tr, y_tr, x_va, y_va, x_hold):
    scaler = StandardScaler().fit(x_tr)
    y_mean, y_std = y_tr.mean(), y_tr.std()
    train_ds = HouseDataset(scaler.transform(x_tr), (y_tr - y_mean) / y_std)
    train_dl = DataLoader(train_ds, batch_size=CFG.batch_size, shuffle=True)
    valid_dl = DataLoader(HouseDataset(scaler.transform(x_va)), batch_size=256)
    hold_dl = DataLoader(HouseDataset(scaler.transform(x_hold)), batch_size=256)

    model = HouseNet(x_tr.shape[1]).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=CFG.gamma)
    criterion = nn.MSELoss()

    best_rmse, best_state = float("inf"), None
    for epoch in range(CFG.epochs):
        model.train()
        losses = []
        for xb, yb in train_dl:
            xb, yb = xb.to(DEVICE), yb.to(DEVICE)
            optimizer.zero_grad()
            loss = criterion(model(xb), yb)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        scheduler.step()

        rmse = rmse_of(y_va, predict(model, valid_dl) * y_std + y_mean)
        if rmse < best_rmse:
            best_rmse = rmse
            best_state = copy.deepcopy(model.state_dict())
        if epoch % 10 == 9:
            print(f"  fold {fold} epoch {epoch + 1:02d}  loss {np.mean(losses):.4f}  valid rmse {rmse:.2f}")

    model.load_state_dict(best_state)
    print(f"  fold {fold} best rmse {best_rmse:.2f}")
    return predict(model, valid_dl) * y_std + y_mean, predict(model, hold_dl) * y_std + y_mean


if __name__ == "__main__":
    seed_everything(CFG.seed)
    df = read_frame()
    features = [c for c in df.columns if c not in (CFG.target, "bin")]
    train, hold = train_test_split(df, test_size=200, stratify=df["bin"], random_state=CFG.seed)
    X = train[features].to_numpy(dtype=np.float32)
    y = train[CFG.target].to_numpy(dtype=np.float32)
    X_hold = hold[features].to_numpy(dtype=np.float32)

    oof = np.zeros(len(train))
    hold_pred = np.zeros(len(hold))
    folds = StratifiedKFold(CFG.n_folds, shuffle=True, random_state=CFG.seed)
    for fold, (tr, va) in enumerate(folds.split(X, train["bin"])):
        oof[va], pred = run_fold(fold, X[tr], y[tr], X[va], y[va], X_hold)
        hold_pred += pred / CFG.n_folds

    print(f"OOF  rmse {rmse_of(y, oof):.2f}  r2 {r2_score(y, oof):.3f}")
    print(f"hold rmse {rmse_of(hold[CFG.target], hold_pred):.2f}  r2 {r2_score(hold[CFG.target], hold_pred):.3f}")
    path = os.path.join(tempfile.mkdtemp(), "submission.csv")
    pd.DataFrame({"id": hold.index, "price": hold_pred}).to_csv(path, index=False)
    print("wrote", path)
