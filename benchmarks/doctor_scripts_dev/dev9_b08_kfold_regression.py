# === House prices: 4-fold MLP, out-of-fold RMSLE ===
import random
import tempfile

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

from toydata import houses


class CFG:
    seed = 42
    n_fold = 4
    epochs = 24
    lr = 6e-3
    weight_decay = 1e-4
    batch_size = 32
    hidden = 64
    patience = 12
    output_dir = tempfile.mkdtemp()


def seed_everything(seed=42):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class AverageMeter(object):
    def __init__(self):
        self.avg = self.sum = self.count = 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


class HouseDataset(Dataset):
    def __init__(self, X, y=None):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, idx):
        x = torch.tensor(self.X[idx], dtype=torch.float)
        return x if self.y is None else (x, torch.tensor(self.y[idx], dtype=torch.float))


class HouseModel(nn.Module):
    def __init__(self, n_features):
        super().__init__()
        self.dense1 = nn.utils.weight_norm(nn.Linear(n_features, CFG.hidden))
        self.dense2 = nn.utils.weight_norm(nn.Linear(CFG.hidden, CFG.hidden))
        self.out = nn.Linear(CFG.hidden, 1)
        self.act = nn.LeakyReLU(0.01)

    def forward(self, x):
        x = self.act(self.dense1(x))
        x = self.act(self.dense2(x))
        return self.out(x).squeeze(1)


class RMSELoss(nn.Module):
    def __init__(self, eps=1e-8):
        super().__init__()
        self.mse, self.eps = nn.MSELoss(), eps

    def forward(self, yhat, y):
        return torch.sqrt(self.mse(yhat, y) + self.eps)


def train_fn(loader, model, criterion, optimizer):
    model.train()
    losses = AverageMeter()
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        losses.update(loss.item(), y.size(0))
    return losses.avg


def valid_fn(loader, model):
    model.eval()
    preds = []
    for x, _ in loader:
        with torch.no_grad():
            preds.append(model(x).numpy())
    return np.concatenate(preds)


def rmsle(y_true, y_pred):
    return np.sqrt(np.mean((np.log1p(y_true) - np.log1p(np.clip(y_pred, 0, None))) ** 2))


def run_fold(fold, X, price, folds):
    trn, val = np.where(folds != fold)[0], np.where(folds == fold)[0]
    mean, std = X[trn].mean(0), X[trn].std(0)
    target = np.log1p(price)
    center, spread = target[trn].mean(), target[trn].std()
    z = (target - center) / spread
    prep = lambda rows: (X[rows] - mean) / std
    train_loader = DataLoader(HouseDataset(prep(trn), z[trn]), batch_size=CFG.batch_size, shuffle=True)
    valid_loader = DataLoader(HouseDataset(prep(val), z[val]), batch_size=256, shuffle=False)
    model = HouseModel(X.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.3, patience=3)
    best, path, wait = np.inf, f"{CFG.output_dir}/fold{fold}.pth", 0
    for epoch in range(CFG.epochs):
        avg_loss = train_fn(train_loader, model, RMSELoss(), optimizer)
        preds = np.expm1(valid_fn(valid_loader, model) * spread + center)
        score = rmsle(price[val], preds)
        scheduler.step(score)
        if score < best:
            best, wait = score, 0
            torch.save({"model": model.state_dict(), "preds": preds}, path)
        else:
            wait += 1
            if wait >= CFG.patience:
                break
    print(f"fold {fold} stopped at epoch {epoch} train rmse {avg_loss:.4f} best rmsle {best:.4f}")
    return val, torch.load(path, weights_only=False)["preds"]


if __name__ == "__main__":
    seed_everything(CFG.seed)
    features, price = houses(1800)
    X, price = features.numpy() * 10 ** np.arange(-1.0, 3.0, 0.5), price.clamp(min=60).numpy() * 1000.0
    folds = np.random.permutation(np.arange(len(X)) % CFG.n_fold)
    oof = np.zeros(len(X))
    for fold in range(CFG.n_fold):
        val_idx, preds = run_fold(fold, X, price, folds)
        oof[val_idx] = preds
    print(f"baseline {rmsle(price, np.full(len(price), np.expm1(np.log1p(price).mean()))):.4f}")
    print(f"CV rmsle {rmsle(price, oof):.4f}")
