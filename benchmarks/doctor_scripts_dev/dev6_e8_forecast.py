import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


@dataclass
class Config:
    window: int = 36
    hidden: int = 32
    batch_size: int = 16
    accum_steps: int = 8
    epochs: int = 8
    lr: float = 0.1
    momentum: float = 0.9
    seed: int = 99


def load_series(n=3000, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(n)
    daily = 4200 * np.sin(2 * np.pi * t / 24 - 1.2) + 1500 * np.sin(4 * np.pi * t / 24 + 0.4)
    weekly = np.where((t // 24) % 7 >= 5, -2600, 900)
    drift = np.zeros(n)
    for i in range(1, n):
        drift[i] = 0.97 * drift[i - 1] + rng.normal(0, 380)
    return (21000 + daily + weekly + drift + rng.normal(0, 350, n)).astype(np.float32)


class StandardScaler:
    def fit(self, x):
        self.mean, self.std = float(x.mean()), float(x.std())
        return self

    def transform(self, x):
        return (x - self.mean) / self.std

    def inverse_transform(self, x):
        return x * self.std + self.mean


class WindowDataset(Dataset):
    def __init__(self, series, scaler, window):
        self.series = series
        self.scaler = scaler
        self.window = window

    def __len__(self):
        return len(self.series) - self.window - 1

    def __getitem__(self, i):
        history = self.series[i:i + self.window]
        future = self.series[i + self.window:i + self.window + 1]
        x = torch.as_tensor(self.scaler.transform(history)).unsqueeze(-1)
        y = torch.as_tensor(self.scaler.transform(future))
        return x, y


class LoadForecaster(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.rnn = nn.GRU(1, hidden, batch_first=True)
        self.fc = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, x):
        out, _ = self.rnn(x)
        return self.fc(out[:, -1])


def train_epoch(model, loader, optimizer, criterion, accum_steps):
    model.train()
    running = 0.0
    optimizer.zero_grad()
    for step, (x, y) in enumerate(loader):
        pred = model(x)
        loss = criterion(pred, y)
        running += loss.item()
        loss = loss / accum_steps
        loss.backward()
        if (step + 1) % accum_steps == 0:
            optimizer.step()
            optimizer.zero_grad()
    return running / len(loader)


@torch.no_grad()
def evaluate(model, loader, scaler, criterion):
    model.eval()
    preds, targets, loss = [], [], 0.0
    for x, y in loader:
        out = model(x)
        loss += criterion(out, y).item() * len(x)
        preds.append(out.view(-1))
        targets.append(y.view(-1))
    preds = scaler.inverse_transform(torch.cat(preds))
    targets = scaler.inverse_transform(torch.cat(targets))
    mae = (preds - targets).abs().mean().item()
    r2 = 1 - ((preds - targets) ** 2).sum().item() / ((targets - targets.mean()) ** 2).sum().item()
    return loss / len(loader.dataset), mae, r2


def main():
    cfg = Config()
    torch.manual_seed(cfg.seed)
    np.random.seed(cfg.seed)

    series = load_series()
    split = int(0.8 * len(series))
    train_series, val_series = series[:split], series[split - cfg.window:]
    scaler = StandardScaler().fit(train_series)
    train_loader = DataLoader(WindowDataset(train_series, scaler, cfg.window), batch_size=cfg.batch_size,
                              shuffle=True, drop_last=True)
    val_loader = DataLoader(WindowDataset(val_series, scaler, cfg.window), batch_size=128)

    model = LoadForecaster(cfg.hidden)
    criterion = nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=cfg.lr, momentum=cfg.momentum)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.3, patience=2)

    best_loss, best_state = float("inf"), None
    for epoch in range(cfg.epochs):
        train_loss = train_epoch(model, train_loader, optimizer, criterion, cfg.accum_steps)
        val_loss, mae, r2 = evaluate(model, val_loader, scaler, criterion)
        scheduler.step(val_loss)
        print(f"epoch {epoch:02d} train {train_loss:.4f} val {val_loss:.4f} mae {mae:.0f} r2 {r2:.4f} "
              f"lr {optimizer.param_groups[0]['lr']:.2e}")
        if best_state is None or val_loss < best_loss:
            best_loss, best_state = val_loss, copy.deepcopy(model.state_dict())

    model.load_state_dict(best_state)
    _, mae, r2 = evaluate(model, val_loader, scaler, criterion)
    naive = np.abs(val_series[cfg.window:] - val_series[cfg.window - 24:-24]).mean()
    print(f"seasonal naive mae {naive:.0f}")
    print(f"FINAL r2 {r2:.4f} mae {mae:.0f}")


if __name__ == "__main__":
    main()
