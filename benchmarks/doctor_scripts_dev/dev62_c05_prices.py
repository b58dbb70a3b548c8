"""House prices from eight features: a small residual MLP with a trainer class and early stopping."""

import copy
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from sklearn.metrics import mean_absolute_error, r2_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses


@dataclass
class Config:
    width: int = 64
    blocks: int = 2
    dropout: float = 0.05
    lr: float = 3e-3
    weight_decay: float = 1e-3
    batch_size: int = 40
    max_epochs: int = 15
    patience: int = 6
    seed: int = 7


class ResidualBlock(nn.Module):
    def __init__(self, width, dropout):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )

    def forward(self, x):
        return x + self.layers(self.norm(x))


class TabularResNet(nn.Module):
    def __init__(self, features, cfg, y_mean, y_std):
        super().__init__()
        self.stem = nn.Linear(features, cfg.width)
        self.blocks = nn.Sequential(*(ResidualBlock(cfg.width, cfg.dropout) for _ in range(cfg.blocks)))
        self.head = nn.Sequential(nn.LayerNorm(cfg.width), nn.GELU(), nn.Linear(cfg.width, 1))
        self.register_buffer("y_mean", y_mean)
        self.register_buffer("y_std", y_std)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x))).squeeze(-1)

    def to_price(self, output):
        return output * self.y_std + self.y_mean

    def loss(self, output, price):
        return F.mse_loss(output, (price - self.y_mean) / self.y_std)


class Standardizer:
    def fit(self, x):
        self.mean, self.std = x.mean(0), x.std(0).clamp(min=1e-6)
        return self

    def __call__(self, x):
        return (x - self.mean) / self.std


@dataclass
class Trainer:
    model: nn.Module
    cfg: Config
    history: list = field(default_factory=list)

    def __post_init__(self):
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=self.cfg.lr, weight_decay=self.cfg.weight_decay
        )
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, factor=0.5, patience=3)

    def fit(self, train_loader, val_loader):
        best, best_state, waited = float("inf"), copy.deepcopy(self.model.state_dict()), 0
        for epoch in range(self.cfg.max_epochs):
            train_loss = self.train_epoch(train_loader)
            prices, predictions = self.predict(val_loader)
            val_rmse = F.mse_loss(predictions, prices).sqrt().item()
            self.scheduler.step(val_rmse)
            self.history.append((train_loss, val_rmse))
            print(f"epoch {epoch:2d}  train loss {train_loss:.4f}  val RMSE {val_rmse:.2f}")
            if val_rmse < best:
                best, best_state, waited = val_rmse, copy.deepcopy(self.model.state_dict()), 0
            else:
                waited += 1
                if waited >= self.cfg.patience:
                    break
        self.model.load_state_dict(best_state)

    def train_epoch(self, loader):
        self.model.train()
        total, count = 0.0, 0
        for x, y in loader:
            self.optimizer.zero_grad()
            loss = self.model.loss(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(x)
            count += len(x)
        return total / count

    @torch.no_grad()
    def predict(self, loader):
        self.model.eval()
        pairs = [(y, self.model.to_price(self.model(x))) for x, y in loader]
        prices, predictions = zip(*pairs)
        return torch.cat(prices), torch.cat(predictions)


def main():
    cfg = Config()
    torch.manual_seed(cfg.seed)
    features, price = houses(count=1600, seed=3)
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(cfg.seed))
    train, val, test = order[:1100], order[1100:1350], order[1350:]
    scale = Standardizer().fit(features[train])
    sets = [TensorDataset(scale(features[part]), price[part]) for part in (train, val, test)]
    train_loader = DataLoader(sets[0], batch_size=cfg.batch_size, shuffle=True, drop_last=True)
    val_loader, test_loader = (DataLoader(part, batch_size=250) for part in sets[1:])

    model = TabularResNet(features.shape[1], cfg, price[train].mean(), price[train].std())
    trainer = Trainer(model, cfg)
    trainer.fit(train_loader, val_loader)
    prices, predictions = trainer.predict(test_loader)
    print(f"test MAE {mean_absolute_error(prices.numpy(), predictions.numpy()):.2f} thousand")
    print(f"test R2  {r2_score(prices.numpy(), predictions.numpy()):.3f}")


if __name__ == "__main__":
    main()
