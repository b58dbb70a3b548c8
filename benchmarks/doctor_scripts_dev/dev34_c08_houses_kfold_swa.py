"""Prices of houses: five-fold cross-validation, scalers fitted on the training folds, SWA over the last epochs."""
import os
import sys

import numpy as np
import torch
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, TensorDataset

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from toydata import houses

EPOCHS, SWA_START, BATCH = 45, 32, 32
UNITS = np.array([1.0, 30.0, 0.1, 5.0, 100.0, 1.0, 12.0, 0.5])  # columns are measured in various units


def get_data():
    features, price = houses(count=1500, seed=0)
    x = features.numpy() * UNITS + 2 * UNITS
    return x.astype(np.float32), price.numpy().astype(np.float32)


def build():
    return nn.Sequential(nn.Linear(8, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))


def predict(model, x):
    model.eval()
    with torch.no_grad():
        return model(torch.from_numpy(x)).squeeze(1).numpy()


def fit_fold(x_train, y_train, x_val, y_val, fold):
    scale_x = StandardScaler().fit(x_train)
    scale_y = StandardScaler().fit(y_train[:, None])
    inputs = scale_x.transform(x_train).astype(np.float32)
    targets = scale_y.transform(y_train[:, None]).astype(np.float32)
    val_inputs = scale_x.transform(x_val).astype(np.float32)

    def in_thousands(scaled):
        return scale_y.inverse_transform(scaled[:, None])[:, 0]

    loader = DataLoader(
        TensorDataset(torch.from_numpy(inputs), torch.from_numpy(targets)), batch_size=BATCH, shuffle=True
    )
    model = build()
    averaged = AveragedModel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[20, SWA_START], gamma=0.4)
    loss_function = nn.HuberLoss(delta=1.0)

    for epoch in range(EPOCHS):
        model.train()
        total = 0.0
        for x, y in loader:
            optimizer.zero_grad()
            loss = loss_function(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
            if epoch >= SWA_START:
                averaged.update_parameters(model)
        scheduler.step()
        score = r2_score(y_val, in_thousands(predict(model, val_inputs)))
        print(f"fold {fold} epoch {epoch:2d} train huber {total / len(inputs):.4f} val R2 {score:.4f}")

    single = in_thousands(predict(model, val_inputs))
    swa = in_thousands(predict(averaged, val_inputs))
    print(f"fold {fold} R2 last {r2_score(y_val, single):.4f}, SWA {r2_score(y_val, swa):.4f}")
    return swa


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x, y = get_data()
    out_of_fold = np.zeros_like(y)
    folds = KFold(n_splits=5, shuffle=True, random_state=0)
    for fold, (train_index, val_index) in enumerate(folds.split(x)):
        out_of_fold[val_index] = fit_fold(x[train_index], y[train_index], x[val_index], y[val_index], fold)
    print(f"out of fold: R2 {r2_score(y, out_of_fold):.4f}, MAE {mean_absolute_error(y, out_of_fold):.2f} thousand")


if __name__ == "__main__":
    main()
