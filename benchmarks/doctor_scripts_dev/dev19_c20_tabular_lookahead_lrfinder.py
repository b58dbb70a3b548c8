"""House prices from a table: a residual MLP, LR range test, Lookahead around AdamW, early stopping on the best weights."""

import copy
import math
from collections import defaultdict

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses


class Lookahead(torch.optim.Optimizer):
    """k steps forward, 1 step back (Zhang et al. 2019)."""

    def __init__(self, base_optimizer, alpha=0.5, k=6):
        self.base_optimizer, self.alpha, self.k = base_optimizer, alpha, k
        self.defaults = base_optimizer.defaults
        self.param_groups = base_optimizer.param_groups
        self.state = defaultdict(dict)
        self.counter = 0
        self.slow = [[p.detach().clone() for p in group["params"]] for group in self.param_groups]

    def zero_grad(self, set_to_none=True):
        self.base_optimizer.zero_grad(set_to_none=set_to_none)

    @torch.no_grad()
    def step(self, closure=None):
        loss = self.base_optimizer.step(closure)
        self.counter += 1
        if self.counter % self.k == 0:
            for slow, group in zip(self.slow, self.param_groups):
                for s, p in zip(slow, group["params"]):
                    s.add_(p - s, alpha=self.alpha)
                    p.copy_(s)
        return loss


class ResidualMLP(nn.Module):
    def __init__(self, features, width=96, blocks=2, dropout=0.05):
        super().__init__()
        self.stem = nn.Linear(features, width)
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width))
                for _ in range(blocks)
            ]
        )
        self.head = nn.Sequential(nn.LayerNorm(width), nn.GELU(), nn.Linear(width, 1))

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x).squeeze(-1)


def lr_find(model, loader, criterion, start=1e-5, end=0.3, steps=80, beta=0.9):
    """The rate rises exponentially on a copy of the model; take a tenth of the rate at which the smoothed loss is lowest."""
    model = copy.deepcopy(model)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=start)
    rates, losses, smooth, best = [], [], 0.0, math.inf
    iterator = iter(loader)
    for i in range(steps):
        try:
            x, y = next(iterator)
        except StopIteration:
            iterator = iter(loader)
            x, y = next(iterator)
        lr = start * (end / start) ** (i / (steps - 1))
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        smooth = beta * smooth + (1 - beta) * loss.item()
        corrected = smooth / (1 - beta ** (i + 1))
        rates.append(lr)
        losses.append(corrected)
        best = min(best, corrected)
        if i > 10 and corrected > 4 * best:
            break
    return rates[int(np.argmin(losses))] / 10


def main():
    torch.manual_seed(0)
    np.random.seed(0)
    features, price = houses(6000, seed=4)
    x_dev, x_test, y_dev, y_test = train_test_split(features.numpy(), price.numpy(), test_size=500, random_state=0)
    x_train, x_val, y_train, y_val = train_test_split(x_dev, y_dev, test_size=500, random_state=1)

    x_scaler, y_scaler = StandardScaler().fit(x_train), StandardScaler().fit(y_train[:, None])
    tensor = lambda a: torch.as_tensor(a, dtype=torch.float32)
    scale_y = lambda y: tensor(y_scaler.transform(y[:, None])[:, 0])
    train_set = TensorDataset(tensor(x_scaler.transform(x_train)), scale_y(y_train))
    x_val_t, x_test_t = tensor(x_scaler.transform(x_val)), tensor(x_scaler.transform(x_test))
    y_val_t = scale_y(y_val)
    loader = DataLoader(train_set, batch_size=64, shuffle=True, drop_last=True)

    model = ResidualMLP(features.shape[1])
    criterion = nn.HuberLoss(delta=1.0)
    lr = lr_find(model, loader, criterion)
    print(f"LR finder suggests {lr:.2e}")

    epochs, patience = 60, 15
    optimizer = Lookahead(torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-3))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer.base_optimizer, T_max=epochs)
    best, best_state, waited = math.inf, None, 0

    def predict(x):
        model.eval()
        with torch.no_grad():
            return model(x)

    for epoch in range(epochs):
        model.train()
        total = 0.0
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
        scheduler.step()
        prediction = predict(x_val_t)
        val_loss = criterion(prediction, y_val_t).item()
        in_money = y_scaler.inverse_transform(prediction.numpy()[:, None])[:, 0]
        print(f"epoch {epoch:2d} train {total / len(loader):.4f} val {val_loss:.4f} MAE {mean_absolute_error(y_val, in_money):.2f} k R2 {r2_score(y_val, in_money):.4f}")
        if val_loss < best:
            best, best_state, waited = val_loss, copy.deepcopy(model.state_dict()), 0
        else:
            waited += 1
            if waited >= patience:
                print("early stop")
                break

    model.load_state_dict(best_state)
    in_money = y_scaler.inverse_transform(predict(x_test_t).numpy()[:, None])[:, 0]
    print(f"test MAE {mean_absolute_error(y_test, in_money):.2f} k, R2 {r2_score(y_test, in_money):.4f}")


if __name__ == "__main__":
    main()
