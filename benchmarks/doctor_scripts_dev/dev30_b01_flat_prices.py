"""Prices of flats from a table of listings: an MLP with an embedding for the district."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


@dataclass
class Config:
    rows: int = 12000
    districts: int = 8
    embedding: int = 4
    hidden: int = 128
    dropout: float = 0.2
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-5
    batch_size: int = 64
    epochs: int = 50
    seed: int = 7


def load_listings(cfg):
    """Listings of one town: five numeric columns, a district, and the price in euros."""
    rng = np.random.default_rng(cfg.seed)
    area = rng.gamma(6.0, 14.0, cfg.rows) + 20
    rooms = np.clip(np.round(area / 28 + rng.normal(0, 0.7, cfg.rows)), 1, 7)
    year = rng.integers(1930, 2022, cfg.rows)
    distance = rng.exponential(4.0, cfg.rows)
    income = rng.normal(42000, 9000, cfg.rows)
    district = rng.integers(0, cfg.districts, cfg.rows)
    level = np.linspace(0.7, 1.4, cfg.districts)[rng.permutation(cfg.districts)]
    per_m2 = 2400 * level[district] * np.exp(-0.06 * distance) * (1 + (income - 42000) / 120000)
    per_m2 = per_m2 * (1 + 0.15 * np.cos(2 * np.pi * (year - 1930) / 92))
    price = area * per_m2 + 6000 * rooms + rng.normal(0, 8000, cfg.rows)
    numeric = np.column_stack([area, rooms, year, distance, income])
    return numeric.astype(np.float32), district.astype(np.int64), price.astype(np.float32)


class PriceNet(nn.Module):
    def __init__(self, num_numeric, cfg):
        super().__init__()
        self.district = nn.Embedding(cfg.districts, cfg.embedding)
        self.body = nn.Sequential(
            nn.Linear(num_numeric + cfg.embedding, cfg.hidden),
            nn.ReLU(),
            nn.Dropout(cfg.dropout),
            nn.Linear(cfg.hidden, cfg.hidden),
            nn.ReLU(),
            nn.Dropout(cfg.dropout),
        )
        self.out = nn.Linear(cfg.hidden, 1)

    def forward(self, numeric, district):
        h = self.body(torch.cat([numeric, self.district(district)], dim=1))
        return self.out(h).squeeze(-1)


def train_one_epoch(model, loader, optimizer, criterion):
    model.train()
    total, count = 0.0, 0
    for numeric, district, target in loader:
        optimizer.zero_grad()
        loss = criterion(model(numeric, district), target)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(target)
        count += len(target)
    return total / count


@torch.no_grad()
def evaluate(model, loader, y_mean, y_std):
    """Mean absolute error in thousands of euros, and R2."""
    model.eval()
    predictions, targets = [], []
    for numeric, district, target in loader:
        predictions.append(model(numeric, district) * y_std + y_mean)
        targets.append(target * y_std + y_mean)
    prediction, target = torch.cat(predictions), torch.cat(targets)
    mae = (prediction - target).abs().mean() / 1000
    r2 = 1 - ((prediction - target) ** 2).mean() / ((target - target.mean()) ** 2).mean()
    return mae.item(), r2.item()


def main():
    cfg = Config()
    torch.manual_seed(cfg.seed)
    numeric, district, price = load_listings(cfg)

    order = np.random.default_rng(cfg.seed + 1).permutation(cfg.rows)
    train_rows, valid_rows = order[: int(0.8 * cfg.rows)], order[int(0.8 * cfg.rows) :]

    x_mean, x_std = numeric[train_rows].mean(0), numeric[train_rows].std(0)
    y_mean, y_std = float(price[train_rows].mean()), float(price[train_rows].std())

    def as_dataset(rows):
        return TensorDataset(
            torch.from_numpy((numeric[rows] - x_mean) / x_std),
            torch.from_numpy(district[rows]),
            torch.from_numpy((price[rows] - y_mean) / y_std),
        )

    train_loader = DataLoader(as_dataset(train_rows), batch_size=cfg.batch_size, shuffle=True)
    valid_loader = DataLoader(as_dataset(valid_rows), batch_size=512)

    model = PriceNet(numeric.shape[1], cfg)
    criterion = nn.MSELoss()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=cfg.lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=cfg.epochs)

    for epoch in range(cfg.epochs):
        loss = train_one_epoch(model, train_loader, optimizer, criterion)
        mae, r2 = evaluate(model, valid_loader, y_mean, y_std)
        scheduler.step()
        print(f"epoch {epoch + 1:2d}  rmse {math.sqrt(loss):.3f}  valid MAE {mae:.1f}k  R2 {r2:.3f}")


if __name__ == "__main__":
    main()
