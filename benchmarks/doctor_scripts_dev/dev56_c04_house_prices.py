"""House prices from eight features, with an averaged copy of the network for validation."""

import copy
from dataclasses import dataclass

import torch
import torch.nn as nn
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses


@dataclass
class Config:
    samples: int = 1600
    hidden: int = 64
    batch_size: int = 32
    epochs: int = 15
    lr: float = 3e-3
    weight_decay: float = 1e-4
    ema_decay: float = 0.97
    seed: int = 7


class PriceModel(nn.Module):
    def __init__(self, features, hidden, price_mean, price_std):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, 1),
        )
        self.register_buffer("price_mean", torch.tensor(price_mean))
        self.register_buffer("price_std", torch.tensor(price_std))

    def forward(self, x):
        return self.layers(x).squeeze(-1)

    def to_price(self, output):
        return output * self.price_std + self.price_mean


class EMA:
    def __init__(self, model, decay):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mean, current in zip(self.model.parameters(), model.parameters()):
            mean.lerp_(current, 1 - decay)


def prepare(cfg):
    features, price = houses(cfg.samples, seed=cfg.seed)
    x_train, x_val, y_train, y_val = train_test_split(
        features.numpy(), price.numpy(), test_size=0.2, random_state=cfg.seed
    )
    scaler = StandardScaler().fit(x_train)
    x_train = torch.from_numpy(scaler.transform(x_train)).float()
    x_val = torch.from_numpy(scaler.transform(x_val)).float()
    y_train, y_val = torch.from_numpy(y_train).float(), torch.from_numpy(y_val).float()
    mean, std = float(y_train.mean()), float(y_train.std())
    y_train, y_val = (y_train - mean) / std, (y_val - mean) / std
    return TensorDataset(x_train, y_train), TensorDataset(x_val, y_val), mean, std


def train_epoch(model, ema, loader, criterion, optimizer):
    model.train()
    total = 0.0
    for x, y in loader:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update(model)
        total += loss.item() * len(x)
    return total / len(loader.dataset)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    predictions, truths = [], []
    for x, y in loader:
        predictions.append(model.to_price(model(x)))
        truths.append(model.to_price(y))
    predictions, truths = torch.cat(predictions).numpy(), torch.cat(truths).numpy()
    return r2_score(truths, predictions), mean_absolute_error(truths, predictions)


def main():
    cfg = Config()
    torch.manual_seed(cfg.seed)
    train_set, val_set, mean, std = prepare(cfg)
    train_loader = DataLoader(train_set, batch_size=cfg.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=64)
    model = PriceModel(8, cfg.hidden, mean, std)
    ema = EMA(model, cfg.ema_decay)
    criterion = nn.SmoothL1Loss(beta=1.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=cfg.epochs, eta_min=cfg.lr / 20)
    for epoch in range(cfg.epochs):
        loss = train_epoch(model, ema, train_loader, criterion, optimizer)
        scheduler.step()
        r2, mae = evaluate(ema.model, val_loader)
        print(f"epoch {epoch + 1:2d}  loss {loss:.4f}  val R2 {r2:.3f}  MAE {mae:.1f} thousand")


if __name__ == "__main__":
    main()
