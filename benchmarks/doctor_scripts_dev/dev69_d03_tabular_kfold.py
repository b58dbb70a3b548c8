"""Tabular baseline: MLP, stratified k-fold, early stopping, fold ensemble."""
import copy
import random

import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import make_classification
from sklearn.metrics import accuracy_score, f1_score, log_loss
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Dataset


class CFG:
    seed = 2023
    n_folds = 5
    epochs = 40
    patience = 8
    batch_size = 64
    lr = 2e-3
    gamma = 0.93
    weight_decay = 1e-4
    hidden = (128, 64)
    dropout = 0.2
    n_classes = 4
    device = "cuda" if torch.cuda.is_available() else "cpu"


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def get_data():
    X, y = make_classification(n_samples=3000, n_features=30, n_informative=12, n_redundant=6,
                               n_classes=CFG.n_classes, n_clusters_per_class=2, class_sep=1.0,
                               flip_y=0.03, weights=[0.4, 0.3, 0.2, 0.1], random_state=CFG.seed)
    rng = np.random.RandomState(CFG.seed)
    X = X * rng.lognormal(0, 1.5, X.shape[1]) + rng.normal(0, 20, X.shape[1])
    return train_test_split(X, y, test_size=0.25, stratify=y, random_state=CFG.seed)


class TabularDataset(Dataset):
    def __init__(self, X, y=None):
        self.X = torch.tensor(X, dtype=torch.float32)
        self.y = None if y is None else torch.tensor(y, dtype=torch.long)

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        if self.y is None:
            return self.X[i]
        return self.X[i], self.y[i]


class MLP(nn.Module):
    def __init__(self, n_features, n_classes, hidden, dropout):
        super().__init__()
        blocks = []
        for width in hidden:
            blocks.append(nn.Sequential(
                nn.Linear(n_features, width),
                nn.BatchNorm1d(width),
                nn.ReLU(),
                nn.Dropout(dropout),
            ))
            n_features = width
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(n_features, n_classes)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class EarlyStopping:
    def __init__(self, patience, mode="min"):
        self.patience = patience
        self.sign = 1 if mode == "min" else -1
        self.best = float("inf")
        self.best_epoch = -1
        self.best_state = None

    def step(self, score, model, epoch):
        score = self.sign * score
        if score < self.best:
            self.best = score
            self.best_epoch = epoch
            self.best_state = copy.deepcopy(model.state_dict())
        return epoch - self.best_epoch >= self.patience


def train_fn(model, loader, optimizer, criterion):
    model.train()
    total = 0.0
    for X, y in loader:
        X, y = X.to(CFG.device), y.to(CFG.device)
        logits = model(X)
        loss = criterion(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
    return total / len(loader.dataset)


@torch.no_grad()
def inference_fn(model, X):
    model.eval()
    probs = []
    for xb in DataLoader(TabularDataset(X), batch_size=256):
        probs.append(torch.softmax(model(xb.to(CFG.device)).double(), dim=1).cpu().numpy())
    return np.concatenate(probs)


def build(n_features):
    return MLP(n_features, CFG.n_classes, CFG.hidden, CFG.dropout).to(CFG.device)


def run_training():
    X, X_test, y, y_test = get_data()
    oof = np.zeros((len(X), CFG.n_classes))
    test_probs = np.zeros((len(X_test), CFG.n_classes))
    skf = StratifiedKFold(n_splits=CFG.n_folds, shuffle=True, random_state=CFG.seed)

    for fold, (tr_idx, va_idx) in enumerate(skf.split(X, y)):
        scaler = StandardScaler().fit(X[tr_idx])
        X_tr, X_va = scaler.transform(X[tr_idx]), scaler.transform(X[va_idx])
        y_tr, y_va = y[tr_idx], y[va_idx]
        loader = DataLoader(TabularDataset(X_tr, y_tr), batch_size=CFG.batch_size, shuffle=True)

        model = build(X.shape[1])
        criterion = nn.CrossEntropyLoss()
        optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=CFG.gamma)
        stopper = EarlyStopping(CFG.patience, mode="min")

        for epoch in range(CFG.epochs):
            train_loss = train_fn(model, loader, optimizer, criterion)
            scheduler.step()
            val_probs = inference_fn(model, X_va)
            val_loss = log_loss(y_va, val_probs, labels=range(CFG.n_classes))
            if stopper.step(val_loss, model, epoch):
                break

        model.load_state_dict(stopper.best_state)
        oof[va_idx] = inference_fn(model, X_va)
        test_probs += inference_fn(model, scaler.transform(X_test)) / CFG.n_folds
        print(f"fold {fold} | epochs {epoch + 1} | best epoch {stopper.best_epoch + 1} | "
              f"train loss {train_loss:.4f} | val loss {log_loss(y_va, oof[va_idx]):.4f} | "
              f"val acc {accuracy_score(y_va, oof[va_idx].argmax(1)):.4f}")

    for name, target, probs in [("oof", y, oof), ("test", y_test, test_probs)]:
        pred = probs.argmax(1)
        print(f"{name} logloss {log_loss(target, probs):.4f} | acc {accuracy_score(target, pred):.4f} | "
              f"macro f1 {f1_score(target, pred, average='macro'):.4f}")


if __name__ == "__main__":
    seed_everything(CFG.seed)
    run_training()
