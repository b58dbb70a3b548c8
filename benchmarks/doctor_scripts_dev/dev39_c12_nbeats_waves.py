"""Forecast the last quarter of a noisy signal from its first three: stacked blocks with backcasts."""
import numpy as np
import torch
from sklearn.metrics import mean_absolute_error, r2_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves

HISTORY, HORIZON = 48, 16


class Block(nn.Module):
    def __init__(self, history, horizon, hidden):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(history, hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.ReLU(),
        )
        self.backcast = nn.Linear(hidden, history)
        self.forecast = nn.Linear(hidden, horizon)

    def forward(self, x):
        theta = self.body(x)
        return self.backcast(theta), self.forecast(theta)


class Forecaster(nn.Module):
    def __init__(self, history=HISTORY, horizon=HORIZON, hidden=64, blocks=3):
        super().__init__()
        self.horizon = horizon
        self.first = Block(history, horizon, hidden)
        self.others = nn.ModuleList(Block(history, horizon, hidden) for _ in range(blocks - 2))
        self.last_body = nn.Sequential(nn.Linear(history, hidden), nn.ReLU())
        self.last_forecast = nn.Linear(hidden, horizon)

    def forward(self, history):
        residual = history
        backcast, forecast = self.first(residual)
        for block in self.others:
            residual = residual - backcast
            backcast, more = block(residual)
            forecast = forecast + more
        residual = residual - backcast
        forecast = forecast + self.last_forecast(self.last_body(residual))
        return forecast


def windows(count, seed):
    signals, _ = waves(count, length=HISTORY + HORIZON, seed=seed)
    signals = signals.squeeze(1)
    return TensorDataset(signals[:, :HISTORY], signals[:, HISTORY:])


class EarlyStopping:
    def __init__(self, patience):
        self.patience, self.best, self.waited, self.state = patience, float("inf"), 0, None

    def should_stop(self, loss, model):
        if loss < self.best:
            self.best, self.waited = loss, 0
            self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}
        else:
            self.waited += 1
        return self.waited >= self.patience


class Trainer:
    def __init__(self, model, device, lr=3e-3, weight_decay=1e-2, max_norm=1.0):
        self.model, self.device, self.max_norm = model.to(device), device, max_norm
        self.criterion = nn.MSELoss()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)

    def train_step(self, history, future):
        loss = self.criterion(self.model(history), future)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        self.optimizer.step()
        return loss.detach()

    def predict(self, loader):
        self.model.eval()
        predicted, true = [], []
        with torch.no_grad():
            for history, future in loader:
                predicted.append(self.model(history.to(self.device)).cpu())
                true.append(future)
        return torch.cat(predicted).numpy(), torch.cat(true).numpy()

    def fit(self, train_loader, valid_loader, epochs, patience):
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, factor=0.5, patience=2)
        stopping = EarlyStopping(patience)
        for epoch in range(1, epochs + 1):
            self.model.train()
            total = 0.0
            for history, future in train_loader:
                total += self.train_step(history.to(self.device), future.to(self.device)) * len(history)
            predicted, true = self.predict(valid_loader)
            valid_loss = float(np.mean((predicted - true) ** 2))
            scheduler.step(valid_loss)
            print(f"Epoch {epoch}/{epochs} - loss: {float(total) / len(train_loader.dataset):.4f} "
                  f"- val_loss: {valid_loss:.4f}")
            if stopping.should_stop(valid_loss, self.model):
                break
        self.model.load_state_dict(stopping.state)


def main():
    torch.manual_seed(8)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_loader = DataLoader(windows(1500, seed=0), batch_size=50, shuffle=True)
    valid_loader = DataLoader(windows(300, seed=1), batch_size=100)
    test_loader = DataLoader(windows(300, seed=2), batch_size=100)

    trainer = Trainer(Forecaster(), device)
    trainer.fit(train_loader, valid_loader, epochs=25, patience=6)

    predicted, true = trainer.predict(test_loader)
    last = np.concatenate([history[:, -1:].numpy().repeat(HORIZON, axis=1) for history, _ in test_loader])
    print(f"test MAE {mean_absolute_error(true, predicted):.4f} (last value: {mean_absolute_error(true, last):.4f})")
    print(f"test R2 {r2_score(true.ravel(), predicted.ravel()):.4f}")


if __name__ == "__main__":
    main()
