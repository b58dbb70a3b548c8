"""Heating demand of buildings from eight numbers about them: k folds, early stopping, best checkpoint."""

import io

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

SEED = 42
N_SPLITS = 3
MAX_EPOCHS = 60
PATIENCE = 12
BATCH_SIZE = 32
LR = 5e-4

np.random.seed(SEED)
torch.manual_seed(SEED)


def make_buildings(n=900):
    rng = np.random.default_rng(7)
    area = rng.uniform(60, 400, n)
    wall = rng.uniform(0.15, 1.2, n)
    glazing = rng.uniform(0.05, 0.4, n)
    height = rng.choice([2.5, 3.0, 3.5], n)
    year = rng.integers(1950, 2020, n).astype(float)
    degree_days = rng.uniform(1500, 4000, n)
    people = rng.integers(1, 8, n).astype(float)
    indoor = rng.normal(20, 1, n)
    loss = area * height / 3 * (wall * (1 - glazing) + 2.0 * glazing)
    demand = 0.02 * loss * degree_days + 8.0 * (2020 - year) * np.sqrt(area) - 250 * people + 300 * (indoor - 20)
    demand = demand + rng.normal(0, 3000, n)
    X = np.stack([area, wall, glazing, height, year, degree_days, people, indoor], axis=1)
    return X.astype(np.float32), demand.astype(np.float32)


class Net(nn.Module):
    def __init__(self, n_features, hidden=256):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.layers(x).squeeze(-1)


class EarlyStopping:
    def __init__(self, patience):
        self.patience = patience
        self.best = float("inf")
        self.counter = 0
        self.checkpoint = io.BytesIO()

    def __call__(self, value, model):
        if value < self.best:
            self.best = value
            self.counter = 0
            self.checkpoint = io.BytesIO()
            torch.save(model.state_dict(), self.checkpoint)
        else:
            self.counter += 1
        return self.counter >= self.patience

    def restore(self, model):
        self.checkpoint.seek(0)
        model.load_state_dict(torch.load(self.checkpoint))


def train_one_epoch(model, loader, criterion, optimizer):
    model.train()
    running = 0.0
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
        running += loss.item() * xb.size(0)
    return running / len(loader.dataset)


@torch.no_grad()
def evaluate(model, loader, target_scaler):
    model.eval()
    preds = torch.cat([model(xb) for xb, _ in loader]).numpy().reshape(-1, 1)
    trues = torch.cat([yb for _, yb in loader]).numpy().reshape(-1, 1)
    preds = target_scaler.inverse_transform(preds)
    trues = target_scaler.inverse_transform(trues)
    rmse = mean_squared_error(trues, preds) ** 0.5
    r2 = r2_score(trues, preds)
    return rmse, r2


def make_loader(X, y, feature_scaler, target_scaler, shuffle):
    features = torch.from_numpy(feature_scaler.transform(X)).float()
    targets = torch.from_numpy(target_scaler.transform(y.reshape(-1, 1)).ravel()).float()
    return DataLoader(TensorDataset(features, targets), batch_size=BATCH_SIZE, shuffle=shuffle)


def main():
    X, y = make_buildings()
    kfold = KFold(n_splits=N_SPLITS, shuffle=True, random_state=SEED)
    scores = []
    for fold, (train_idx, val_idx) in enumerate(kfold.split(X)):
        feature_scaler = StandardScaler().fit(X[train_idx])
        target_scaler = StandardScaler().fit(y[train_idx].reshape(-1, 1))
        train_loader = make_loader(X[train_idx], y[train_idx], feature_scaler, target_scaler, shuffle=True)
        val_loader = make_loader(X[val_idx], y[val_idx], feature_scaler, target_scaler, shuffle=False)

        model = Net(X.shape[1])
        criterion = nn.MSELoss()
        optimizer = torch.optim.Adam(model.parameters(), lr=LR, weight_decay=1e-4)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=2)
        stopper = EarlyStopping(PATIENCE)

        for epoch in range(MAX_EPOCHS):
            train_loss = train_one_epoch(model, train_loader, criterion, optimizer)
            rmse, r2 = evaluate(model, val_loader, target_scaler)
            scheduler.step(rmse)
            if epoch % 5 == 0:
                print(f"fold {fold} epoch {epoch:3d} train loss {train_loss:.4f} val RMSE {rmse:.0f} kWh R2 {r2:.4f}")
            if stopper(rmse, model):
                break

        stopper.restore(model)
        rmse, r2 = evaluate(model, val_loader, target_scaler)
        print(f"fold {fold} best: RMSE {rmse:.0f} kWh R2 {r2:.4f}")
        scores.append((rmse, r2))
    rmse, r2 = np.mean(scores, axis=0)
    print(f"mean of folds: RMSE {rmse:.0f} kWh, R2 {r2:.4f}")


if __name__ == "__main__":
    main()
