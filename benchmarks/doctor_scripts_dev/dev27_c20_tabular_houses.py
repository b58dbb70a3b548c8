"""House prices from eight columns: standardized inputs and targets, Huber loss, metrics in thousands."""
from dataclasses import dataclass

import torch
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses


@dataclass(frozen=True)
class Settings:
    rows: int = 4000
    hidden: int = 96
    dropout: float = 0.05
    lr: float = 2e-3
    weight_decay: float = 1e-3
    batch_size: int = 32
    epochs: int = 60
    seed: int = 4


class ResidualMLP(nn.Module):
    def __init__(self, inputs, hidden, dropout):
        super().__init__()
        self.enter = nn.Linear(inputs, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, hidden))
            for _ in range(2))
        self.leave = nn.Sequential(nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, x):
        x = self.enter(x)
        for block in self.blocks:
            x = x + block(x)
        return self.leave(x).squeeze(-1)


def prepare(settings):
    features, price = houses(settings.rows, seed=settings.seed)
    # columns as they come: rooms, areas, years ... in units of their own
    units = torch.tensor([1.0, 35.0, 2.0, 0.1, 4.0, 1.5, 100.0, 10.0])
    offsets = torch.tensor([4.0, 90.0, 0.0, 1.0, 12.0, 3.0, 1970.0, 50.0])
    features = (features * units + offsets).numpy()
    x_train, x_val, y_train, y_val = train_test_split(features, price.numpy(), test_size=0.2, random_state=settings.seed)
    x_scaler = StandardScaler().fit(x_train)
    y_scaler = StandardScaler().fit(y_train[:, None])

    def to_dataset(x, y):
        scaled = y_scaler.transform(y[:, None])[:, 0]
        return TensorDataset(torch.tensor(x_scaler.transform(x), dtype=torch.float32), torch.tensor(scaled, dtype=torch.float32))

    return to_dataset(x_train, y_train), to_dataset(x_val, y_val), y_scaler


def evaluate(model, dataset, y_scaler):
    model.eval()
    with torch.no_grad():
        x, y = dataset.tensors
        predicted = y_scaler.inverse_transform(model(x).numpy()[:, None])
        actual = y_scaler.inverse_transform(y.numpy()[:, None])
    return mean_absolute_error(actual, predicted), r2_score(actual, predicted)


def main(settings=Settings()):
    torch.manual_seed(settings.seed)
    train_set, val_set, y_scaler = prepare(settings)
    loader = DataLoader(train_set, settings.batch_size, shuffle=True)
    model = ResidualMLP(8, settings.hidden, settings.dropout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.lr, total_steps=settings.epochs * len(loader))
    criterion = nn.HuberLoss(delta=1.0)
    for epoch in range(settings.epochs):
        model.train()
        total = 0.0
        for x, y in loader:
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item() * len(x)
        mae, r2 = evaluate(model, val_set, y_scaler)
        print(f"epoch {epoch:2d} train huber {total / len(train_set):.4f} | val MAE {mae:.2f}k R2 {r2:.3f}")


if __name__ == "__main__":
    main()
