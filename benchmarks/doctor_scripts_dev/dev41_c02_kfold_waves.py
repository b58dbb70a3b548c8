# Wave classification: 5-fold baseline (1D CNN, one-cycle, OOF + averaged test predictions)
import copy
import os
import random

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import StratifiedKFold
from torch.utils.data import DataLoader, Dataset

from toydata import waves


class CFG:
    seed = 2023
    n_splits = 5
    epochs = 8
    batch_size = 32
    lr = 3e-3
    weight_decay = 1e-2
    n_classes = 4
    device = "cpu"


def seed_everything(seed):
    random.seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class WaveDataset(Dataset):
    def __init__(self, X, y=None, train=False):
        self.X, self.y, self.train = X, y, train

    def __len__(self):
        return len(self.X)

    def __getitem__(self, idx):
        x = self.X[idx]
        if self.train:
            # the phase is random, so minus the signal is a signal of the same kind
            if random.random() < 0.5:
                x = -x
            x = x * random.uniform(0.9, 1.1)
        if self.y is None:
            return x
        return x, self.y[idx]


def conv_block(c_in, c_out, kernel):
    return nn.Sequential(
        nn.Conv1d(c_in, c_out, kernel, padding=kernel // 2, bias=False), nn.BatchNorm1d(c_out), nn.ReLU(inplace=True)
    )


class WaveNet1D(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.body = nn.Sequential(
            conv_block(1, 24, 7), nn.MaxPool1d(2),
            conv_block(24, 48, 7), nn.MaxPool1d(2),
            conv_block(48, 48, 5),
        )
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(96, n_classes)

    def forward(self, x):
        x = self.body(x)
        x = torch.cat([x.mean(-1), x.amax(-1)], dim=1)
        return self.fc(self.dropout(x))


def train_fn(loader, model, criterion, optimizer, scheduler, epoch):
    model.train()
    total, n = 0.0, 0
    for step, (x, y) in enumerate(loader):
        x, y = x.to(CFG.device), y.to(CFG.device)
        loss = criterion(model(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item() * len(y)
        n += len(y)
    return total / n


@torch.no_grad()
def predict_fn(loader, model):
    model.eval()
    preds = []
    for batch in loader:
        x = batch[0] if isinstance(batch, (list, tuple)) else batch
        preds.append(model(x.to(CFG.device)).softmax(dim=1).cpu().numpy())
    return np.concatenate(preds)


def run_fold(fold, X, y, trn_idx, val_idx, test_loader):
    seed_everything(CFG.seed + fold)
    train_loader = DataLoader(
        WaveDataset(X[trn_idx], y[trn_idx], train=True), CFG.batch_size, shuffle=True, drop_last=True
    )
    valid_loader = DataLoader(WaveDataset(X[val_idx], y[val_idx]), CFG.batch_size * 2, shuffle=False)
    model = WaveNet1D(CFG.n_classes).to(CFG.device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=CFG.lr, epochs=CFG.epochs, steps_per_epoch=len(train_loader)
    )
    best_score, best_state = np.inf, None
    for epoch in range(CFG.epochs):
        train_loss = train_fn(train_loader, model, criterion, optimizer, scheduler, epoch)
        score = log_loss(y[val_idx].numpy(), predict_fn(valid_loader, model), labels=list(range(CFG.n_classes)))
        if score < best_score:
            best_score, best_state = score, copy.deepcopy(model.state_dict())
    print(f"fold {fold}: train loss {train_loss:.4f} | best logloss {best_score:.4f}")
    model.load_state_dict(best_state)
    return predict_fn(valid_loader, model), predict_fn(test_loader, model), best_score


def main():
    X, y = waves(count=800, seed=0)
    X_test, y_test = waves(count=300, seed=1)
    test_loader = DataLoader(WaveDataset(X_test), CFG.batch_size * 2, shuffle=False)

    oof = np.zeros((len(X), CFG.n_classes))
    test_preds = np.zeros((len(X_test), CFG.n_classes))
    rows = []
    skf = StratifiedKFold(n_splits=CFG.n_splits, shuffle=True, random_state=CFG.seed)
    for fold, (trn_idx, val_idx) in enumerate(skf.split(np.zeros(len(X)), y.numpy())):
        trn_idx, val_idx = torch.from_numpy(trn_idx), torch.from_numpy(val_idx)
        val_preds, fold_test, score = run_fold(fold, X, y, trn_idx, val_idx, test_loader)
        oof[val_idx.numpy()] = val_preds
        test_preds += fold_test / CFG.n_splits
        rows.append({"fold": fold, "logloss": score, "acc": accuracy_score(y[val_idx].numpy(), val_preds.argmax(1))})

    print(pd.DataFrame(rows).round(4).to_string(index=False))
    print(f"OOF accuracy:  {accuracy_score(y.numpy(), oof.argmax(1)):.4f}")
    print(f"Test accuracy: {accuracy_score(y_test.numpy(), test_preds.argmax(1)):.4f}")


if __name__ == "__main__":
    main()
