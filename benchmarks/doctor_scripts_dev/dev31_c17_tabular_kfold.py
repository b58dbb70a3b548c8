"""House prices, in the way of a Kaggle notebook: scaled columns and target, folds, the best epoch of each fold."""

import copy

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses

SEED = 1337
N_FOLDS = 3
EPOCHS = 20
BATCH_SIZE = 50
LR = 3e-3

# %%
torch.manual_seed(SEED)
np.random.seed(SEED)
torch.set_num_threads(1)
features, price = houses(count=6000, seed=9)
units = np.array([1, 10, 100, 1, 0.1, 1, 5, 1000], dtype=np.float32)  # as they come: meters, years, meters to the shore
X = features.numpy() * units + 2 * units
y = price.numpy().reshape(-1, 1)
X_dev, X_hold, y_dev, y_hold = train_test_split(X, y, test_size=0.2, random_state=SEED)
print(X_dev.shape, X_hold.shape, y_dev.mean(), y_dev.std())


# %%
class MLP(nn.Module):
    def __init__(self, n_in, hidden=64, p=0.05):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(n_in, hidden), nn.BatchNorm1d(hidden), nn.SiLU(), nn.Dropout(p),
            nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.SiLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.net(x)


def to_loader(x, y, shuffle):
    dataset = TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32))
    return DataLoader(dataset, batch_size=BATCH_SIZE if shuffle else 500, shuffle=shuffle, drop_last=shuffle)


def predict(model, x, y_scaler):
    model.eval()
    with torch.no_grad():
        out = model(torch.tensor(x, dtype=torch.float32)).numpy()
    return y_scaler.inverse_transform(out)


def rmse(a, b):
    return float(np.sqrt(np.mean((a - b) ** 2)))


def fit_fold(fold, tr, va):
    x_scaler, y_scaler = StandardScaler().fit(X_dev[tr]), StandardScaler().fit(y_dev[tr])
    train_loader = to_loader(x_scaler.transform(X_dev[tr]), y_scaler.transform(y_dev[tr]), shuffle=True)
    x_valid = x_scaler.transform(X_dev[va])
    model = MLP(X.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS, eta_min=1e-5)
    criterion = nn.MSELoss()
    best, best_state = float("inf"), None
    for epoch in range(EPOCHS):
        model.train()
        total = 0.0
        for xb, yb in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(xb), yb)
            loss.backward()
            optimizer.step()
            total += loss.item()
        scheduler.step()
        score = rmse(predict(model, x_valid, y_scaler), y_dev[va])
        if score < best:
            best, best_state = score, copy.deepcopy(model.state_dict())
        print(f"fold {fold} epoch {epoch + 1:2d} train mse {total / len(train_loader):.4f} valid rmse {score:.2f}")
    model.load_state_dict(best_state)
    return model, x_scaler, y_scaler, best


# %%
scores, hold_predictions = [], []
for fold, (tr, va) in enumerate(KFold(N_FOLDS, shuffle=True, random_state=SEED).split(X_dev)):
    model, x_scaler, y_scaler, best = fit_fold(fold, tr, va)
    scores.append(best)
    hold_predictions.append(predict(model, x_scaler.transform(X_hold), y_scaler))

mean_prediction = np.mean(hold_predictions, axis=0)
print(f"CV rmse {np.mean(scores):.2f} +- {np.std(scores):.2f}")
print(f"holdout rmse {rmse(mean_prediction, y_hold):.2f} r2 {r2_score(y_hold, mean_prediction):.4f}")
