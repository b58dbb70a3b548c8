"""Predict house prices from a table of eight columns of very different units."""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses


@dataclass
class Config:
    hidden: int = 192
    batch_size: int = 64
    epochs: int = 60
    lr: float = 2e-3
    weight_decay: float = 1e-4
    decay_every: int = 16
    decay: float = 0.3
    seed: int = 3


class Standardizer:
    """Zero mean and unit deviation per column, with statistics of the training rows."""

    def fit(self, values):
        self.mean = values.mean(dim=0)
        self.std = values.std(dim=0)
        return self

    def transform(self, values):
        return (values - self.mean) / self.std

    def inverse(self, values):
        return values * self.std + self.mean


class PriceNet(nn.Module):
    def __init__(self, columns, hidden):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(columns, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden // 2),
            nn.ReLU(),
        )
        self.head = nn.Linear(hidden // 2, 1)

    def forward(self, x):
        return self.head(self.body(x)).squeeze(-1)


class Trainer:
    def __init__(self, model, price_scaler, config):
        self.model = model
        self.price_scaler = price_scaler
        self.config = config
        self.criterion = nn.MSELoss()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, config.decay_every, gamma=config.decay)
        self.best = float("inf")
        self.best_state = None

    def train_epoch(self, loader):
        self.model.train()
        total, count = 0.0, 0
        for x, y in loader:
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(x)
            count += len(x)
        return total / count

    @torch.no_grad()
    def evaluate(self, loader):
        self.model.eval()
        outputs, targets = [], []
        for x, y in loader:
            outputs.append(self.price_scaler.inverse(self.model(x)))
            targets.append(self.price_scaler.inverse(y))
        outputs, targets = torch.cat(outputs), torch.cat(targets)
        errors = outputs - targets
        r2 = 1 - errors.pow(2).mean() / targets.var(unbiased=False)
        return errors.abs().mean().item(), r2.item()

    def fit(self, train_loader, valid_loader):
        for epoch in range(1, self.config.epochs + 1):
            loss = self.train_epoch(train_loader)
            mae, r2 = self.evaluate(valid_loader)
            self.scheduler.step()
            if mae < self.best:
                self.best = mae
                self.best_state = copy.deepcopy(self.model.state_dict())
            print(f"epoch {epoch:2d}  loss {loss:.4f}  valid MAE {mae:6.2f}k  R2 {r2:.3f}")
        self.model.load_state_dict(self.best_state)


def load_table():
    features, price = houses(6000, seed=5)
    # area, age, rooms, floors, garden, distance, tax, income
    unit = torch.tensor([35.0, 12.0, 1.1, 0.8, 400.0, 2.5, 0.1, 6000.0])
    center = torch.tensor([110.0, 40.0, 4.0, 2.0, 800.0, 6.0, 0.3, 40000.0])
    return features * unit + center, price


def main():
    config = Config()
    torch.manual_seed(config.seed)
    table, price = load_table()
    order = torch.randperm(len(table))
    train, valid, test = order[:4400], order[4400:5200], order[5200:]

    table_scaler = Standardizer().fit(table[train])
    price_scaler = Standardizer().fit(price[train])

    def loader(rows, shuffle):
        data = TensorDataset(table_scaler.transform(table[rows]), price_scaler.transform(price[rows]))
        return DataLoader(data, batch_size=config.batch_size, shuffle=shuffle)

    trainer = Trainer(PriceNet(table.shape[1], config.hidden), price_scaler, config)
    trainer.fit(loader(train, True), loader(valid, False))
    mae, r2 = trainer.evaluate(loader(test, False))
    print(f"test MAE {mae:.2f}k  R2 {r2:.3f}")


if __name__ == "__main__":
    main()
