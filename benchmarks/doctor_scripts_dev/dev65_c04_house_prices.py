"""House prices from a table: standardize, fit an MLP, keep the best epoch."""

import argparse
import copy

import numpy as np
import torch
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses


class ResidualBlock(nn.Module):
    def __init__(self, width, dropout):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, 2 * width)
        self.linear2 = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        h = torch.relu(self.linear1(self.norm(x)))
        return x + self.linear2(self.dropout(h))


class TabularResNet(nn.Module):
    def __init__(self, n_features, width=48, n_blocks=2, dropout=0.05):
        super().__init__()
        self.stem = nn.Linear(n_features, width)
        self.blocks = nn.Sequential(*[ResidualBlock(width, dropout) for _ in range(n_blocks)])
        self.head = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, x):
        out = self.head(self.blocks(self.stem(x)))
        return out.squeeze(-1)


class TargetScale:
    """Remembers mean and deviation of the training prices."""

    def __init__(self, prices):
        self.mean, self.std = float(prices.mean()), float(prices.std())

    def encode(self, prices):
        return (prices - self.mean) / self.std

    def decode(self, outputs):
        return outputs * self.std + self.mean


def load(args):
    features, price = houses(args.samples, seed=args.seed)
    X = features.numpy()
    y = price.numpy() * 1000.0
    X_train, X_rest, y_train, y_rest = train_test_split(X, y, test_size=0.3, random_state=args.seed)
    X_val, X_test, y_val, y_test = train_test_split(X_rest, y_rest, test_size=0.5, random_state=args.seed)
    scaler = StandardScaler().fit(X_train)
    parts = {}
    for name, (a, b) in {"train": (X_train, y_train), "val": (X_val, y_val), "test": (X_test, y_test)}.items():
        inputs = torch.as_tensor(scaler.transform(a), dtype=torch.float32)
        parts[name] = TensorDataset(inputs, torch.as_tensor(np.asarray(b), dtype=torch.float32))
    return parts


@torch.no_grad()
def predict(model, loader, scale):
    model.eval()
    predictions, truths = [], []
    for xb, yb in loader:
        predictions.append(scale.decode(model(xb)))
        truths.append(yb)
    return torch.cat(predictions).numpy(), torch.cat(truths).numpy()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=1600)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    parts = load(args)
    train_loader = DataLoader(parts["train"], batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(parts["val"], batch_size=256)
    test_loader = DataLoader(parts["test"], batch_size=256)
    scale = TargetScale(parts["train"].tensors[1])

    model = TabularResNet(n_features=8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)
    criterion = nn.MSELoss()

    best_mae, best_state = float("inf"), None
    for epoch in range(args.epochs):
        model.train()
        total = 0.0
        for xb, yb in train_loader:
            optimizer.zero_grad()
            output = model(xb)
            loss = criterion(output, scale.encode(yb))
            loss.backward()
            optimizer.step()
            total += loss.item() * len(xb)
        scheduler.step()
        predictions, truths = predict(model, val_loader, scale)
        mae = mean_absolute_error(truths, predictions)
        if mae < best_mae:
            best_mae, best_state = mae, copy.deepcopy(model.state_dict())
        print(f"epoch {epoch:2d}  loss {total / len(parts['train']):.4f}  val MAE ${mae:,.0f}")

    model.load_state_dict(best_state)
    predictions, truths = predict(model, test_loader, scale)
    print(f"test MAE ${mean_absolute_error(truths, predictions):,.0f}  R2 {r2_score(truths, predictions):.3f}")


if __name__ == "__main__":
    main()
