# Forecast of tomorrow's temperature from the last 30 days, with an LSTM.
import os
import tempfile

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import mean_squared_error
from sklearn.preprocessing import MinMaxScaler
from torch.utils.data import DataLoader, TensorDataset

np.random.seed(0)
torch.manual_seed(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

LOOKBACK = 30
BATCH_SIZE = 64
EPOCHS = 40


def load_series(days=3000):
    t = np.arange(days)
    noise = np.zeros(days)
    shocks = np.random.normal(0, 0.8, days)
    for i in range(1, days):
        noise[i] = 0.7 * noise[i - 1] + shocks[i]
    values = 15 + 8 * np.sin(2 * np.pi * t / 365.25) + 3 * np.sin(2 * np.pi * t / 7) + noise
    return pd.Series(values, index=pd.date_range("2010-01-01", periods=days, freq="D"), name="temperature")


def create_sequences(data, lookback):
    xs, ys = [], []
    for i in range(len(data) - lookback):
        xs.append(data[i:i + lookback])
        ys.append(data[i + lookback])
    return torch.tensor(np.array(xs), dtype=torch.float32), torch.tensor(np.array(ys), dtype=torch.float32)


class EarlyStopping:
    """Stops when the validation loss has not improved for `patience` epochs, and saves the best model."""

    def __init__(self, patience=7, delta=0.0, path="checkpoint.pt"):
        self.patience = patience
        self.delta = delta
        self.path = path
        self.counter = 0
        self.best_loss = np.inf
        self.early_stop = False

    def __call__(self, val_loss, model):
        if val_loss < self.best_loss - self.delta:
            self.best_loss = val_loss
            torch.save(model.state_dict(), self.path)
            self.counter = 0
        else:
            self.counter += 1
            if self.counter >= self.patience:
                self.early_stop = True


class LSTMForecaster(nn.Module):
    def __init__(self, input_size=1, hidden_size=64, num_layers=1):
        super().__init__()
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.lstm = nn.LSTM(input_size, hidden_size, num_layers, batch_first=True)
        self.fc = nn.Linear(hidden_size, 1)

    def forward(self, x):
        h0 = torch.zeros(self.num_layers, x.size(0), self.hidden_size, device=x.device)
        c0 = torch.zeros(self.num_layers, x.size(0), self.hidden_size, device=x.device)
        out, _ = self.lstm(x, (h0, c0))
        return self.fc(out[:, -1, :])


# the past for training, what follows for validation, the end for the test
series = load_series()
values = series.values.reshape(-1, 1)
n_train, n_val = int(len(values) * 0.7), int(len(values) * 0.15)
train_raw, val_raw, test_raw = values[:n_train], values[n_train:n_train + n_val], values[n_train + n_val:]
print("train until", series.index[n_train - 1].date(), "validation until", series.index[n_train + n_val - 1].date())

scaler = MinMaxScaler(feature_range=(-1, 1))
train_scaled = scaler.fit_transform(train_raw)
val_scaled = scaler.transform(val_raw)
test_scaled = scaler.transform(test_raw)

X_train, y_train = create_sequences(train_scaled, LOOKBACK)
X_val, y_val = create_sequences(val_scaled, LOOKBACK)
X_test, y_test = create_sequences(test_scaled, LOOKBACK)
print(X_train.shape, y_train.shape, X_val.shape, X_test.shape)

# the order of the windows does not matter, each holds its own past
train_loader = DataLoader(TensorDataset(X_train, y_train), batch_size=BATCH_SIZE, shuffle=True)
val_loader = DataLoader(TensorDataset(X_val, y_val), batch_size=256, shuffle=False)

model = LSTMForecaster().to(device)
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=20, gamma=0.3)
stopper = EarlyStopping(patience=12, path=os.path.join(tempfile.mkdtemp(), "lstm.pt"))


def to_degrees(scaled):
    return scaler.inverse_transform(scaled.cpu().numpy())


def rmse(x, y):
    model.eval()
    with torch.no_grad():
        prediction = model(x.to(device))
    return float(np.sqrt(mean_squared_error(to_degrees(y), to_degrees(prediction))))


train_losses, val_losses = [], []
for epoch in range(1, EPOCHS + 1):
    model.train()
    batch_losses, batch_sizes = [], []
    for xb, yb in train_loader:
        xb, yb = xb.to(device), yb.to(device)
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
        batch_losses.append(loss.item())
        batch_sizes.append(len(xb))
    train_losses.append(np.average(batch_losses, weights=batch_sizes))

    model.eval()
    batch_losses, batch_sizes = [], []
    with torch.no_grad():
        for xb, yb in val_loader:
            xb, yb = xb.to(device), yb.to(device)
            batch_losses.append(criterion(model(xb), yb).item())
            batch_sizes.append(len(xb))
    val_losses.append(np.average(batch_losses, weights=batch_sizes))
    scheduler.step()

    print(f"Epoch {epoch:3d}  train loss {train_losses[-1]:.5f}  val loss {val_losses[-1]:.5f}  "
          f"val RMSE {rmse(X_val, y_val):.3f} degrees")
    stopper(val_losses[-1], model)
    if stopper.early_stop:
        print("Early stopping")
        break

model.load_state_dict(torch.load(stopper.path))
naive = float(np.sqrt(mean_squared_error(to_degrees(y_test), to_degrees(X_test[:, -1]))))
print(f"Test RMSE {rmse(X_test, y_test):.3f} degrees (as today: {naive:.3f})")
