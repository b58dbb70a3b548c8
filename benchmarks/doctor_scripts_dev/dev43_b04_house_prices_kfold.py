# %% [markdown]
# # House prices: a plain PyTorch MLP, 4 folds
# Train and test are drawn from the same generator. The score is the RMSE in dollars, as on the leaderboard.

# %%
import copy

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses

SEED = 42
N_FOLDS = 4
EPOCHS = 40
BATCH_SIZE = 32
LR = 3e-3

# %%
raw, price = houses(count=1100, seed=3)
raw = raw.numpy()
df = pd.DataFrame({
    "living_area": 120 + 35 * raw[:, 0],
    "age": 45 + 14 * raw[:, 1],
    "x_km": 6 * raw[:, 2],
    "y_km": 8 * raw[:, 3],
    "facing": 90 * raw[:, 4],
    "floor": 3 + raw[:, 5],
    "lot_area": 600 + 150 * raw[:, 6],
    "tax": 2400 + 700 * raw[:, 7],
    "price": (1000 * price.numpy()).round(),
})
train_df, test_df = df.iloc[:900].reset_index(drop=True), df.iloc[900:].reset_index(drop=True)
train_df.describe().T

# %%
feature_columns = [column for column in df.columns if column != "price"]
X, y = train_df[feature_columns].to_numpy(), train_df["price"].to_numpy()
X_test, y_test = test_df[feature_columns].to_numpy(), test_df["price"].to_numpy()
print(f"{len(X)} houses to train with, {len(X_test)} to predict, {X.shape[1]} features")


# %%
def make_model(n_features):
    return nn.Sequential(
        nn.Linear(n_features, 64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, 1),
    )


def predict(model, features, mean, std):
    model.eval()
    with torch.no_grad():
        return model(features).squeeze(1).numpy() * std + mean


def rmse(prediction, truth):
    return float(np.sqrt(np.mean((prediction - truth) ** 2)))


# %%
criterion = nn.MSELoss()
oof = np.zeros(len(X))
test_predictions = []
folds = KFold(n_splits=N_FOLDS, shuffle=True, random_state=SEED)

for fold, (trn_idx, val_idx) in enumerate(folds.split(X)):
    torch.manual_seed(SEED + fold)
    scaler = StandardScaler().fit(X[trn_idx])
    y_mean, y_std = y[trn_idx].mean(), y[trn_idx].std()
    inputs = torch.tensor(scaler.transform(X), dtype=torch.float32)
    target = torch.tensor((y - y_mean) / y_std, dtype=torch.float32)
    test_inputs = torch.tensor(scaler.transform(X_test), dtype=torch.float32)
    train_loader = DataLoader(TensorDataset(inputs[trn_idx], target[trn_idx]), batch_size=BATCH_SIZE, shuffle=True)

    model = make_model(X.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.3, patience=3)
    best_score, best_state, best_epoch = np.inf, None, 0

    for epoch in range(1, EPOCHS + 1):
        model.train()
        train_loss = 0.0
        for xb, yb in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(xb).squeeze(1), yb)
            loss.backward()
            optimizer.step()
            train_loss += loss.item() * len(xb)
        train_loss /= len(trn_idx)

        score = rmse(predict(model, inputs[val_idx], y_mean, y_std), y[val_idx])
        scheduler.step(score)
        if score < best_score:
            best_score, best_epoch = score, epoch
            best_state = copy.deepcopy(model.state_dict())
        if epoch % 10 == 0:
            lr = optimizer.param_groups[0]["lr"]
            print(f"fold {fold} epoch {epoch:2d}: train loss {train_loss:.4f}, valid RMSE {score:,.0f}, lr {lr:.1e}")

    model.load_state_dict(best_state)
    oof[val_idx] = predict(model, inputs[val_idx], y_mean, y_std)
    test_predictions.append(predict(model, test_inputs, y_mean, y_std))
    print(f"fold {fold}: best RMSE {best_score:,.0f} at epoch {best_epoch}")

# %%
print(f"out of fold: RMSE {rmse(oof, y):,.0f} (always the mean: {y.std():,.0f})")
submission = pd.DataFrame({"id": test_df.index, "price": np.mean(test_predictions, axis=0)})
print(submission.head())
print(f"test: RMSE {rmse(submission['price'].to_numpy(), y_test):,.0f}")
