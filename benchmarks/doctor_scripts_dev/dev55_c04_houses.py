"""Price regression with an MLP; a small trainer class with early stopping."""
import argparse
import copy
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split

from toydata import houses


@dataclass
class Config:
    hidden: int = 64
    epochs: int = 15
    batch_size: int = 32
    lr: float = 5e-3
    weight_decay: float = 1e-4
    patience: int = 6
    seed: int = 0


class PriceModel(nn.Module):
    """Features are standardized inside, so that the model can be called with raw ones."""

    def __init__(self, x_mean, x_std, y_mean, y_std, hidden):
        super().__init__()
        self.register_buffer("x_mean", x_mean)
        self.register_buffer("x_std", x_std)
        self.register_buffer("y_mean", y_mean)
        self.register_buffer("y_std", y_std)
        self.net = nn.Sequential(
            nn.Linear(len(x_mean), hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.net((x - self.x_mean) / self.x_std).squeeze(-1)

    def to_price(self, out):
        return out * self.y_std + self.y_mean


class Trainer:
    def __init__(self, model, config):
        self.model, self.config = model, config
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, mode="min", factor=0.5, patience=2)
        self.best_loss, self.best_state, self.bad_epochs = float("inf"), None, 0

    def loss(self, x, y):
        target = (y - self.model.y_mean) / self.model.y_std
        return F.mse_loss(self.model(x), target)

    def predict(self, x):
        return self.model.to_price(self.model(x))

    def train_epoch(self, loader):
        self.model.train()
        total = 0.0
        for x, y in loader:
            loss = self.loss(x, y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(x)
        return total / len(loader.dataset)

    @torch.no_grad()
    def evaluate(self, loader):
        self.model.eval()
        prices, predictions, total = [], [], 0.0
        for x, y in loader:
            total += self.loss(x, y).item() * len(x)
            prices.append(y)
            predictions.append(self.predict(x))
        prices, predictions = torch.cat(prices), torch.cat(predictions)
        residual = (prices - predictions).pow(2).mean()
        r2 = 1 - residual / prices.var(unbiased=False)
        return total / len(loader.dataset), residual.sqrt().item(), r2.item()

    def fit(self, train_loader, val_loader):
        for epoch in range(self.config.epochs):
            train_loss = self.train_epoch(train_loader)
            val_loss, rmse, r2 = self.evaluate(val_loader)
            self.scheduler.step(val_loss)
            print(f"{epoch:3d}  train {train_loss:.4f}  val {val_loss:.4f}  rmse ${rmse:,.0f}  r2 {r2:.3f}")
            if val_loss < self.best_loss:
                self.best_loss, self.bad_epochs = val_loss, 0
                self.best_state = copy.deepcopy(self.model.state_dict())
            else:
                self.bad_epochs += 1
                if self.bad_epochs >= self.config.patience:
                    print("early stop")
                    break
        if self.best_state is not None:
            self.model.load_state_dict(self.best_state)


def main():
    parser = argparse.ArgumentParser()
    for name, value in vars(Config()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    config = Config(**vars(parser.parse_args()))
    torch.manual_seed(config.seed)

    features, price = houses(1500, seed=config.seed)
    price = price * 1000  # dollars
    dataset = TensorDataset(features, price)
    train_set, val_set, test_set = random_split(dataset, [1000, 250, 250])
    train_loader = DataLoader(train_set, config.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, 125)
    test_loader = DataLoader(test_set, 125)

    x_train, y_train = features[train_set.indices], price[train_set.indices]
    model = PriceModel(x_train.mean(0), x_train.std(0), y_train.mean(), y_train.std(), config.hidden)
    trainer = Trainer(model, config)
    trainer.fit(train_loader, val_loader)
    _, rmse, r2 = trainer.evaluate(test_loader)
    print(f"test rmse ${rmse:,.0f}, r2 {r2:.3f}")


if __name__ == "__main__":
    main()
