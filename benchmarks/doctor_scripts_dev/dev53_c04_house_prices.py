"""House prices from a table: an MLP, a Trainer, and early stopping."""

import copy
import math
from dataclasses import dataclass, field

import torch
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses


@dataclass
class Config:
    hidden: list = field(default_factory=lambda: [64, 64])
    batch_size: int = 32
    epochs: int = 15
    lr: float = 3e-3
    weight_decay: float = 1e-4
    patience: int = 5
    seed: int = 42


class MLP(nn.Module):
    def __init__(self, n_features, hidden, n_out=1):
        super().__init__()
        sizes = [n_features, *hidden]
        layers = []
        for n_in, n in zip(sizes[:-1], sizes[1:]):
            layers += [nn.Linear(n_in, n), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], n_out)

    def forward(self, x):
        return self.head(self.body(x))


class EarlyStopping:
    """Keeps the weights of the lowest validation error."""

    def __init__(self, patience):
        self.patience, self.counter = patience, 0
        self.best_rmse, self.state = math.inf, None

    def step(self, rmse, model):
        if rmse < self.best_rmse:
            self.best_rmse, self.counter = rmse, 0
            self.state = copy.deepcopy(model.state_dict())
        else:
            self.counter += 1
        return self.counter >= self.patience


class Trainer:
    def __init__(self, model, config, target_scaler):
        self.model, self.config = model, config
        self.target_std = float(target_scaler.scale_[0])
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizer, mode="min", factor=0.5, patience=2
        )

    def compute_loss(self, outputs, targets):
        return ((outputs - targets) ** 2).mean()

    def predict(self, x):
        return self.model(x)

    def train_epoch(self, loader):
        self.model.train()
        total, count = torch.zeros(()), 0
        for x, y in loader:
            self.optimizer.zero_grad()
            loss = self.compute_loss(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            total += loss.detach() * len(x)
            count += len(x)
        return total.item() / count

    @torch.no_grad()
    def evaluate(self, loader):
        """Root mean squared error in thousands, and R2."""
        self.model.eval()
        predictions, targets = [], []
        for x, y in loader:
            predictions.append(self.predict(x))
            targets.append(y)
        predictions, targets = torch.cat(predictions), torch.cat(targets)
        residual = ((predictions - targets) ** 2).mean()
        r2 = 1 - residual / targets.var(unbiased=False)
        return residual.sqrt().item() * self.target_std, r2.item()

    def fit(self, train_loader, valid_loader):
        stopper = EarlyStopping(self.config.patience)
        for epoch in range(1, self.config.epochs + 1):
            loss = self.train_epoch(train_loader)
            rmse, r2 = self.evaluate(valid_loader)
            self.scheduler.step(rmse)
            print(f"epoch {epoch:2d}  loss {loss:.4f}  valid rmse {rmse:.2f}  r2 {r2:.3f}")
            if stopper.step(rmse, self.model):
                print("stopped early")
                break
        self.model.load_state_dict(stopper.state)
        return stopper.best_rmse


def make_loaders(config):
    features, price = houses(1600)
    order = torch.randperm(len(price), generator=torch.Generator().manual_seed(config.seed))
    train_idx, valid_idx = order[:1280], order[1280:]
    x_scaler = StandardScaler().fit(features[train_idx].numpy())
    y_scaler = StandardScaler().fit(price[train_idx, None].numpy())

    def table(idx):
        x = torch.from_numpy(x_scaler.transform(features[idx].numpy())).float()
        y = torch.from_numpy(y_scaler.transform(price[idx, None].numpy())).float()
        return TensorDataset(x, y)

    train_loader = DataLoader(table(train_idx), batch_size=config.batch_size, shuffle=True)
    valid_loader = DataLoader(table(valid_idx), batch_size=160)
    return train_loader, valid_loader, y_scaler


def main():
    config = Config()
    torch.manual_seed(config.seed)
    train_loader, valid_loader, y_scaler = make_loaders(config)
    model = MLP(8, config.hidden)
    trainer = Trainer(model, config, y_scaler)
    best = trainer.fit(train_loader, valid_loader)
    print(f"best validation rmse {best:.2f} thousand")


if __name__ == "__main__":
    main()
