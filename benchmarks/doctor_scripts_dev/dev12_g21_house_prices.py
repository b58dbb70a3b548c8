"""Prices of houses from eight numbers: standardized inputs and target, Huber loss, errors reported in thousands."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses


@dataclass
class Settings:
    train_count: int = 2400
    epochs: int = 30
    batch_size: int = 64
    hidden: int = 96
    lr: float = 3e-3
    weight_decay: float = 1e-4
    patience: int = 8
    seed: int = 4


class StandardScaler:
    def fit(self, values):
        self.mean, self.std = values.mean(0), values.std(0)
        return self

    def transform(self, values):
        return (values - self.mean) / self.std

    def inverse_transform(self, values):
        return values * self.std + self.mean


class ResidualMLP(nn.Module):
    def __init__(self, inputs, hidden, depth=2):
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
            for _ in range(depth)
        )
        self.last = nn.Sequential(nn.LayerNorm(hidden), nn.SiLU(), nn.Linear(hidden, 1))

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return self.last(x).squeeze(-1)


def regression_report(predicted, actual):
    error = predicted - actual
    residual, spread = (error**2).sum(), ((actual - actual.mean()) ** 2).sum()
    return {"MAE": error.abs().mean().item(), "RMSE": (error**2).mean().sqrt().item(), "R2": 1 - (residual / spread).item()}


def show(title, report):
    print(title, "  ".join(f"{name} {value:.3f}" for name, value in report.items()))


class PriceModel:
    def __init__(self, settings):
        self.settings = settings
        self.x_scaler, self.y_scaler = StandardScaler(), StandardScaler()

    def fit(self, x, y, x_val, y_val):
        s = self.settings
        self.x_scaler.fit(x)
        self.y_scaler.fit(y)
        dataset = TensorDataset(self.x_scaler.transform(x), self.y_scaler.transform(y))
        loader = DataLoader(dataset, batch_size=s.batch_size, shuffle=True)
        self.net = ResidualMLP(x.shape[1], s.hidden)
        optimizer = torch.optim.AdamW(self.net.parameters(), lr=s.lr, weight_decay=s.weight_decay)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=s.epochs * len(loader))
        loss_fn = nn.HuberLoss(delta=1.0)
        best, waited, best_state = float("inf"), 0, None
        for epoch in range(s.epochs):
            self.net.train()
            total = 0.0
            for xb, yb in loader:
                optimizer.zero_grad()
                loss = loss_fn(self.net(xb), yb)
                loss.backward()
                optimizer.step()
                scheduler.step()
                total += loss.item() * len(xb)
            report = regression_report(self.predict(x_val), y_val)
            if epoch % 5 == 4 or epoch == 0:
                show(f"epoch {epoch + 1:3d} loss {total / len(x):.4f} val", report)
            if report["RMSE"] < best:
                best, waited = report["RMSE"], 0
                best_state = {key: value.clone() for key, value in self.net.state_dict().items()}
            else:
                waited += 1
                if waited > s.patience:
                    print(f"stopped after epoch {epoch + 1}")
                    break
        self.net.load_state_dict(best_state)
        return self

    @torch.no_grad()
    def predict(self, x):
        self.net.eval()
        return self.y_scaler.inverse_transform(self.net(self.x_scaler.transform(x)))


def main():
    settings = Settings()
    torch.manual_seed(settings.seed)
    x_train, y_train = houses(settings.train_count, seed=0)
    x_val, y_val = houses(400, seed=1)
    x_test, y_test = houses(400, seed=2)
    show("mean of training prices:", regression_report(y_train.mean().expand_as(y_test), y_test))
    model = PriceModel(settings).fit(x_train, y_train, x_val, y_val)
    show("test:", regression_report(model.predict(x_test), y_test))


if __name__ == "__main__":
    main()
