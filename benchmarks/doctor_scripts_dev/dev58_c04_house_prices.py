"""House prices: a residual MLP on a table, in the style of tabular baselines (rtdl)."""

import argparse
import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses


@dataclass
class Config:
    width: int = 64
    blocks: int = 2
    dropout: float = 0.05
    lr: float = 3e-3
    weight_decay: float = 1e-2
    batch_size: int = 64
    epochs: int = 15
    seed: int = 3


@dataclass
class Target:
    """Mean and deviation of the prices trained with."""

    mean: float
    std: float


class ResBlock(nn.Module):
    def __init__(self, width, dropout):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 2 * width)
        self.fc2 = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        z = F.relu(self.fc1(self.norm(x)))
        return x + self.fc2(self.dropout(z))


class PriceNet(nn.Module):
    def __init__(self, features, config, target):
        super().__init__()
        self.stem = nn.Linear(features, config.width)
        self.blocks = nn.Sequential(*[ResBlock(config.width, config.dropout) for _ in range(config.blocks)])
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, 1)
        self.target = target

    def forward(self, x):
        z = self.blocks(self.stem(x))
        return self.head(F.relu(self.norm(z))).squeeze(-1)

    def predict(self, x):
        return self.forward(x) * self.target.std + self.target.mean


def prepare(config):
    features, price = houses(1500, seed=config.seed)
    x, y = features.numpy(), price.numpy()
    x_train, x_rest, y_train, y_rest = train_test_split(x, y, test_size=0.3, random_state=config.seed)
    x_val, x_test, y_val, y_test = train_test_split(x_rest, y_rest, test_size=0.5, random_state=config.seed)
    scaler = StandardScaler().fit(x_train)
    target = Target(float(y_train.mean()), float(y_train.std()))

    def as_set(a, b):
        a = scaler.transform(a).astype(np.float32)
        return TensorDataset(torch.from_numpy(a), torch.from_numpy(b.astype(np.float32)))

    return as_set(x_train, y_train), as_set(x_val, y_val), as_set(x_test, y_test), target


def loss_fn(model, x, y, target):
    return F.mse_loss(model(x), (y - target.mean) / target.std)


@torch.inference_mode()
def evaluate(model, dataset):
    model.eval()
    loader = DataLoader(dataset, batch_size=256)
    predictions = torch.cat([model.predict(x) for x, _ in loader]).numpy()
    truth = dataset.tensors[1].numpy()
    return {"mae": mean_absolute_error(truth, predictions), "r2": r2_score(truth, predictions)}


def fit(model, train_set, val_set, target, config):
    loader = DataLoader(train_set, batch_size=config.batch_size, shuffle=True, drop_last=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=3)
    best = {"mae": float("inf")}
    best_state = copy.deepcopy(model.state_dict())
    for epoch in range(1, config.epochs + 1):
        model.train()
        total = 0.0
        for x, y in loader:
            optimizer.zero_grad()
            loss = loss_fn(model, x, y, target)
            loss.backward()
            optimizer.step()
            total += loss.item()
        scores = evaluate(model, val_set)
        scheduler.step(scores["mae"])
        if scores["mae"] < best["mae"]:
            best, best_state = scores, copy.deepcopy(model.state_dict())
        print(f"{epoch:3d}  loss {total / len(loader):.4f}  val MAE {scores['mae']:.2f}k  R2 {scores['r2']:.3f}")
    model.load_state_dict(best_state)
    return best


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=Config.epochs)
    parser.add_argument("--lr", type=float, default=Config.lr)
    args = parser.parse_args()
    config = Config(epochs=args.epochs, lr=args.lr)
    torch.manual_seed(config.seed)

    train_set, val_set, test_set, target = prepare(config)
    model = PriceNet(train_set.tensors[0].shape[1], config, target)
    fit(model, train_set, val_set, target, config)
    scores = evaluate(model, test_set)
    print(f"test MAE {scores['mae']:.2f}k, R2 {scores['r2']:.3f}")


if __name__ == "__main__":
    main()
