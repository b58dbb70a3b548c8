"""House prices by a small network. The bug: outputs are (N, 1) and targets (N,), and the loss spreads them."""

from __future__ import annotations

from typing import Any

import torch
from mlxtend.data import boston_housing_data
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, Dataset

CODES = ("loss.broadcast",)


class Housing(Dataset):
    def __init__(self, X, y):
        self.X = torch.tensor(X, dtype=torch.float32)
        self.y = torch.tensor(y, dtype=torch.float32)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, idx):
        return self.X[idx], self.y[idx]


class Regressor(nn.Module):
    def __init__(self, n_features):
        super().__init__()
        self.fc1 = nn.Linear(n_features, 64)
        self.fc2 = nn.Linear(64, 32)
        self.fc3 = nn.Linear(32, 1)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        return self.fc3(x)


def setup(broken: bool) -> dict[str, Any]:
    torch.manual_seed(7)
    X, y = boston_housing_data()
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=7)
    scaler, target_scaler = StandardScaler().fit(X_train), StandardScaler().fit(y_train[:, None])
    y_train, y_test = target_scaler.transform(y_train[:, None]), target_scaler.transform(y_test[:, None])
    if broken:
        y_train, y_test = y_train.ravel(), y_test.ravel()
    model = Regressor(X.shape[1])

    def train_step(model, batch, optimizer, loss_fn):
        features, target = batch
        optimizer.zero_grad()
        loss = loss_fn(model(features), target)
        loss.backward()
        optimizer.step()
        return loss

    return {
        "model": model,
        "train": DataLoader(Housing(scaler.transform(X_train), y_train), batch_size=32, shuffle=True),
        "val": DataLoader(Housing(scaler.transform(X_test), y_test), batch_size=32),
        "loss": nn.MSELoss() if not broken else lambda output, target: ((output - target) ** 2).mean(),
        "optimizer": torch.optim.Adam(model.parameters(), lr=3e-3),
        "step": train_step,
        "task": "regress",
    }
