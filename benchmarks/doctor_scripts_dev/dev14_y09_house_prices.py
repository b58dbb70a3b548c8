# House price regression: a table with eight columns in their own units, an MLP, SGD with momentum
import copy

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Dataset

from toydata import houses

CONFIG = dict(seed=21, batch_size=32, epochs=40, lr=0.02, momentum=0.9, hidden=(64, 64), patience=12, n_valid=200, n_test=250)
COLUMNS = ["area", "age", "rooms", "floor", "distance", "income", "taxes", "garden"]
CENTERS = np.array([120, 40, 5, 4, 12, 52000, 900, 300], dtype=np.float32)
SPREADS = np.array([35, 15, 1.5, 2, 5, 14000, 250, 120], dtype=np.float32)


def read_table(count=1600):
    """Returns the features in their units and the price in dollars."""
    features, price = houses(count, seed=8)
    return features.numpy() * SPREADS + CENTERS, price.numpy() * 1000


class HouseDataset(Dataset):
    def __init__(self, X, y):
        assert len(X) == len(y)
        self.X = torch.tensor(X, dtype=torch.float32)
        self.y = torch.tensor(y, dtype=torch.float32)

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], self.y[i]


class PriceNet(nn.Module):
    def __init__(self, n_features, hidden):
        super().__init__()
        layers = []
        for h in hidden:
            layers.append(nn.Linear(n_features, h))
            layers.append(nn.ReLU())
            n_features = h
        layers.append(nn.Linear(n_features, 1))
        self.net = nn.Sequential(*layers)

    def forward(self, x):
        return self.net(x)


class EarlyStopping:
    def __init__(self, patience):
        self.patience, self.best_score, self.counter, self.state = patience, None, 0, None

    def __call__(self, val_loss, model):
        score = -val_loss
        if self.best_score is None or score > self.best_score:
            self.best_score, self.counter = score, 0
            self.state = copy.deepcopy(model.state_dict())
        else:
            self.counter += 1
        return self.counter >= self.patience


def run_epoch(model, loader, criterion, optimizer=None):
    total, count = 0.0, 0
    with torch.set_grad_enabled(optimizer is not None):
        for xb, yb in loader:
            pred = model(xb).squeeze(1)
            loss = criterion(pred, yb)
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            total += loss.item() * len(xb)
            count += len(xb)
    return total / count


def predict(model, X):
    model.eval()
    with torch.no_grad():
        return model(torch.tensor(X, dtype=torch.float32)).numpy().ravel()


def main(cfg):
    np.random.seed(cfg["seed"])
    torch.manual_seed(cfg["seed"])
    X, y = read_table()
    idx = np.random.permutation(len(X))
    test_idx = idx[: cfg["n_test"]]
    valid_idx = idx[cfg["n_test"] : cfg["n_test"] + cfg["n_valid"]]
    train_idx = idx[cfg["n_test"] + cfg["n_valid"] :]

    x_scaler, y_scaler = StandardScaler(), StandardScaler()
    X_train = x_scaler.fit_transform(X[train_idx])
    X_valid = x_scaler.transform(X[valid_idx])
    X_test = x_scaler.transform(X[test_idx])
    y_train = y_scaler.fit_transform(y[train_idx].reshape(-1, 1)).ravel()
    y_valid = y_scaler.transform(y[valid_idx].reshape(-1, 1)).ravel()

    train_loader = DataLoader(HouseDataset(X_train, y_train), batch_size=cfg["batch_size"], shuffle=True)
    valid_loader = DataLoader(HouseDataset(X_valid, y_valid), batch_size=256)

    model = PriceNet(len(COLUMNS), cfg["hidden"])
    criterion = nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=cfg["lr"], momentum=cfg["momentum"])
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[20, 32], gamma=0.3)
    stopper = EarlyStopping(cfg["patience"])

    for epoch in range(cfg["epochs"]):
        model.train()
        train_loss = run_epoch(model, train_loader, criterion, optimizer)
        model.eval()
        valid_loss = run_epoch(model, valid_loader, criterion)
        scheduler.step()
        if epoch % 5 == 0:
            print(f"epoch {epoch:3d}  train mse {train_loss:.4f}  valid mse {valid_loss:.4f}  lr {scheduler.get_last_lr()[0]:.4g}")
        if stopper(valid_loss, model):
            print("early stop at", epoch)
            break

    model.load_state_dict(stopper.state)
    prices = y_scaler.inverse_transform(predict(model, X_test).reshape(-1, 1)).ravel()
    mae, r2 = mean_absolute_error(y[test_idx], prices), r2_score(y[test_idx], prices)
    print(f"test MAE {mae:,.0f} dollars (std of prices {y[test_idx].std():,.0f}), R2 {r2:.3f}")


if __name__ == "__main__":
    main(CONFIG)
