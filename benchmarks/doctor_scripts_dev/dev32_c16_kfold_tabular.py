"""Breast cancer: five folds, a scaler fitted in each of them, and the ensemble of the folds on rows held out."""

import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

SEED, FOLDS, EPOCHS = 0, 5, 30


class MLP(nn.Module):
    def __init__(self, inputs, hidden=(48, 24), dropout=0.2):
        super().__init__()
        layers = []
        for width in hidden:
            layers += [nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)]
            inputs = width
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear(inputs, 1)

    def forward(self, x):
        return self.out(self.layers(x)).squeeze(1)


def tensors(x, y):
    return TensorDataset(torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(y, dtype=torch.float32))


def predict(model, x):
    model.eval()
    with torch.no_grad():
        return torch.sigmoid(model(torch.as_tensor(x, dtype=torch.float32))).numpy()


def train_fold(fold, x_train, y_train, x_val, y_val):
    loader = DataLoader(tensors(x_train, y_train), batch_size=24, shuffle=True, drop_last=True)
    model = MLP(x_train.shape[1])
    pos_weight = torch.tensor((y_train == 0).sum() / (y_train == 1).sum(), dtype=torch.float32)
    criterion = nn.BCEWithLogitsLoss(pos_weight=pos_weight)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for epoch in range(EPOCHS):
        model.train()
        total = 0.0
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
        scheduler.step()
        if epoch % 5 == 4:
            probability = predict(model, x_val)
            print(
                f"fold {fold} epoch {epoch + 1:2d} loss {total / len(loader):.4f} "
                f"accuracy {((probability > 0.5) == y_val).mean():.3f} auc {roc_auc_score(y_val, probability):.4f}"
            )
    return model


def main():
    torch.manual_seed(SEED)
    np.random.seed(SEED)
    x, y = load_breast_cancer(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.2, stratify=y, random_state=SEED)
    out_of_fold, test_votes = np.zeros(len(y)), []
    for fold, (train, val) in enumerate(StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(x, y)):
        scaler = StandardScaler().fit(x[train])
        model = train_fold(fold, scaler.transform(x[train]), y[train], scaler.transform(x[val]), y[val])
        out_of_fold[val] = predict(model, scaler.transform(x[val]))
        test_votes.append(predict(model, scaler.transform(x_test)))
    print(f"out of fold: accuracy {((out_of_fold > 0.5) == y).mean():.4f} auc {roc_auc_score(y, out_of_fold):.4f}")
    ensemble = np.mean(test_votes, axis=0)
    print(f"test: accuracy {((ensemble > 0.5) == y_test).mean():.4f} auc {roc_auc_score(y_test, ensemble):.4f}")


if __name__ == "__main__":
    main()
