"""A main guard, a regression, no validation loader. The bug: prices in dollars, not standardized."""

import argparse

import torch
from mlxtend.data import boston_housing_data
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--broken", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(3)
    X, Y = (torch.tensor(part, dtype=torch.float32) for part in boston_housing_data())
    X = (X - X.mean(0)) / X.std(0)
    Y = 1000 * Y[:, None] if args.broken else (Y[:, None] - Y.mean()) / Y.std()
    model = nn.Sequential(nn.Linear(13, 64), nn.ReLU(), nn.Linear(64, 1))
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)
    mse = nn.MSELoss()
    running, n_steps = 0.0, 0
    for epoch in range(200):
        for x, y in DataLoader(TensorDataset(X, Y), batch_size=32, shuffle=True):
            opt.zero_grad()
            loss = mse(model(x), y)
            loss.backward()
            opt.step()
            running += loss.item()
            n_steps += 1
        print(epoch, running / n_steps)
