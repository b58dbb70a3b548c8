"""House prices from eight columns: a small MLP, a Trainer class and a dataclass of settings."""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses

# area, age, rooms, baths, noise, lot, distance, tax: as they stand in the table
SCALE = torch.tensor([45.0, 12.0, 3.0, 0.8, 1.5, 250.0, 6.0, 0.05])
OFFSET = torch.tensor([130.0, 30.0, 5.0, 2.0, 0.0, 900.0, 20.0, 0.3])


@dataclass
class Config:
    rows: int = 3000
    valid_rows: int = 600
    batch_size: int = 32
    epochs: int = 200
    lr: float = 2e-3
    weight_decay: float = 1e-3
    hidden: int = 96
    seed: int = 7


class Standardizer:
    def fit(self, values):
        self.mean = values.mean(0)
        self.std = values.std(0)
        return self

    def transform(self, values):
        return (values - self.mean) / self.std

    def inverse(self, values):
        return values * self.std + self.mean


def make_loaders(config):
    columns, price = houses(config.rows, seed=3)
    table = columns * SCALE + OFFSET
    order = torch.randperm(config.rows, generator=torch.Generator().manual_seed(config.seed))
    valid, train = order[: config.valid_rows], order[config.valid_rows :]

    x_scaler = Standardizer().fit(table[train])
    y_scaler = Standardizer().fit(price[train])
    target = y_scaler.transform(price).unsqueeze(1)

    train_set = TensorDataset(x_scaler.transform(table[train]), target[train])
    valid_set = TensorDataset(x_scaler.transform(table[valid]), target[valid])
    return (
        DataLoader(train_set, batch_size=config.batch_size, shuffle=True),
        DataLoader(valid_set, batch_size=200),
        y_scaler,
    )


class PriceNet(nn.Module):
    def __init__(self, inputs, hidden):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.layers(x)


class Trainer:
    def __init__(self, model, config, train_loader, valid_loader, y_scaler):
        self.model = model
        self.config = config
        self.train_loader = train_loader
        self.valid_loader = valid_loader
        self.y_scaler = y_scaler
        self.loss_fn = nn.MSELoss()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=config.epochs)
        self.best_score = float("-inf")
        self.best_state = None

    def train_epoch(self):
        self.model.train()
        total, seen = 0.0, 0
        for x, y in self.train_loader:
            self.optimizer.zero_grad()
            loss = self.loss_fn(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(x)
            seen += len(x)
        return total / seen

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        outputs, targets = [], []
        for x, y in self.valid_loader:
            outputs.append(self.model(x))
            targets.append(y)
        predicted = self.y_scaler.inverse(torch.cat(outputs))
        actual = self.y_scaler.inverse(torch.cat(targets))
        mse = ((predicted - actual) ** 2).mean()
        return mse.sqrt().item(), (1 - mse / actual.var()).item()

    def fit(self):
        for epoch in range(1, self.config.epochs + 1):
            train_loss = self.train_epoch()
            self.scheduler.step()
            rmse, r2 = self.validate()
            if r2 > self.best_score:
                self.best_score = r2
                self.best_state = copy.deepcopy(self.model.state_dict())
            print(f"epoch {epoch:3d}  train loss {train_loss:.4f}  valid rmse {rmse:6.2f}  r2 {r2:.3f}")
        self.model.load_state_dict(self.best_state)
        rmse, r2 = self.validate()
        print(f"kept model: rmse {rmse:.2f} thousand, r2 {r2:.3f}")


if __name__ == "__main__":
    config = Config()
    torch.manual_seed(config.seed)
    train_loader, valid_loader, y_scaler = make_loaders(config)
    model = PriceNet(8, config.hidden)
    Trainer(model, config, train_loader, valid_loader, y_scaler).fit()
