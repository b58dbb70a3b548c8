"""House prices: five folds, out-of-fold predictions, and the mean of the five networks on houses kept aside."""
import copy

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import KFold, train_test_split
from sklearn.preprocessing import StandardScaler

from toydata import houses

SEED = 2024
N_FOLDS = 5
EPOCHS = 60
BATCH = 64


def build_model(n_features):
    return nn.Sequential(
        nn.Linear(n_features, 64),
        nn.SiLU(),
        nn.Linear(64, 64),
        nn.SiLU(),
        nn.Linear(64, 1),
    )


def to_tensor(array):
    return torch.as_tensor(np.asarray(array), dtype=torch.float32)


def predict(model, x):
    model.eval()
    with torch.no_grad():
        return model(x).squeeze(1)


def fit_fold(x_tr, y_tr, x_va, y_va, seed):
    torch.manual_seed(seed)
    model = build_model(x_tr.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=5)
    criterion = nn.SmoothL1Loss(beta=0.5)
    best, best_weights = float("inf"), None
    for epoch in range(EPOCHS):
        model.train()
        for rows in torch.randperm(len(x_tr)).split(BATCH):
            optimizer.zero_grad()
            loss = criterion(model(x_tr[rows]).squeeze(1), y_tr[rows])
            loss.backward()
            optimizer.step()
        val_error = (predict(model, x_va) - y_va).pow(2).mean().item()
        plateau.step(val_error)
        if val_error < best:
            best, best_weights = val_error, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_weights)
    return model, best


def main():
    features, price = houses(count=1000, seed=4)
    features, price = features.numpy(), price.numpy()
    x_dev, x_test, y_dev, y_test = train_test_split(features, price, test_size=0.2, random_state=SEED)

    oof = np.zeros_like(y_dev)
    test_predictions = []
    folds = KFold(n_splits=N_FOLDS, shuffle=True, random_state=SEED)
    for fold, (idx_train, idx_val) in enumerate(folds.split(x_dev)):
        x_scaler = StandardScaler().fit(x_dev[idx_train])
        y_scaler = StandardScaler().fit(y_dev[idx_train, None])
        x_tr, x_va, x_te = (to_tensor(x_scaler.transform(part)) for part in (x_dev[idx_train], x_dev[idx_val], x_test))
        y_tr, y_va = (to_tensor(y_scaler.transform(y_dev[rows, None])[:, 0]) for rows in (idx_train, idx_val))

        model, error = fit_fold(x_tr, y_tr, x_va, y_va, seed=SEED + fold)

        def in_thousands(x):
            return y_scaler.inverse_transform(predict(model, x).numpy()[:, None])[:, 0]

        oof[idx_val] = in_thousands(x_va)
        test_predictions.append(in_thousands(x_te))
        print(
            f"fold {fold}: scaled MSE {error:.4f}  MAE {mean_absolute_error(y_dev[idx_val], oof[idx_val]):.2f}  "
            f"R2 {r2_score(y_dev[idx_val], oof[idx_val]):.4f}"
        )

    blend = np.mean(test_predictions, axis=0)
    print(f"out of fold  MAE {mean_absolute_error(y_dev, oof):.2f}  R2 {r2_score(y_dev, oof):.4f}")
    print(f"test (blend) MAE {mean_absolute_error(y_test, blend):.2f}  R2 {r2_score(y_test, blend):.4f}")


if __name__ == "__main__":
    main()
