# Electricity load forecasting with a GRU
# Predict the load HORIZON hours ahead from the last LOOKBACK hours of
# temperature, wind and load.
import copy

import numpy as np
import torch
import torch.nn as nn
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

SEED = 42
LOOKBACK = 48
HORIZON = 6
TARGET = 2          # columns: temperature, wind, load
HIDDEN = 32
BATCH_SIZE = 64
EPOCHS = 15
LR = 3e-3

torch.manual_seed(SEED)
np.random.seed(SEED)
device = "cuda" if torch.cuda.is_available() else "cpu"


# ---------------------------------------------------------------- data
def ar1(n, phi, sigma):
    out = np.zeros(n)
    noise = np.random.normal(0, sigma, n)
    for i in range(1, n):
        out[i] = phi * out[i - 1] + noise[i]
    return out


def load_data(n=4200):
    t = np.arange(n)
    temp = 12 + 7 * np.sin(2 * np.pi * t / 2500) + 4 * np.sin(2 * np.pi * (t - 9) / 24) + ar1(n, 0.97, 0.6)
    wind = np.abs(5 + ar1(n, 0.95, 0.8))
    felt = np.zeros(n)
    felt[0] = temp[0]
    for i in range(1, n):
        felt[i] = 0.93 * felt[i - 1] + 0.07 * temp[i]
    weekend = (t // 24) % 7 >= 5
    daily = 60 * np.sin(2 * np.pi * (t - 8) / 24) + 25 * np.sin(4 * np.pi * (t - 3) / 24)
    load = 500 + 0.012 * t + daily * np.where(weekend, 0.7, 1.0) - 7 * (felt - 12) + 3 * wind + ar1(n, 0.7, 5)
    return np.stack([temp, wind, load], axis=1).astype(np.float32)


def make_windows(data):
    X, y = [], []
    for i in range(len(data) - LOOKBACK - HORIZON + 1):
        X.append(data[i:i + LOOKBACK])
        y.append(data[i + LOOKBACK + HORIZON - 1, TARGET])
    return torch.tensor(np.array(X)), torch.tensor(np.array(y))


data = load_data()
n_train = int(len(data) * 0.7)
n_val = int(len(data) * 0.15)
train, val, test = data[:n_train], data[n_train:n_train + n_val], data[n_train + n_val:]

scaler = StandardScaler()
train = scaler.fit_transform(train)
val = scaler.transform(val)
test = scaler.transform(test)

X_train, y_train = make_windows(train)
X_val, y_val = make_windows(val)
X_test, y_test = make_windows(test)
print("train", X_train.shape, "val", X_val.shape, "test", X_test.shape)

train_loader = DataLoader(TensorDataset(X_train, y_train), batch_size=BATCH_SIZE, shuffle=True)
val_loader = DataLoader(TensorDataset(X_val, y_val), batch_size=BATCH_SIZE, shuffle=False)
test_loader = DataLoader(TensorDataset(X_test, y_test), batch_size=BATCH_SIZE, shuffle=False)


# --------------------------------------------------------------- model
class GRUForecaster(nn.Module):
    def __init__(self, input_dim, hidden_dim):
        super().__init__()
        self.gru = nn.GRU(input_dim, hidden_dim, batch_first=True)
        self.fc = nn.Sequential(nn.Linear(hidden_dim, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        out, _ = self.gru(x)
        return self.fc(out[:, -1, :])


model = GRUForecaster(X_train.shape[-1], HIDDEN).to(device)
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=LR)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)


# ------------------------------------------------------------ training
def predict(loader):
    model.eval()
    preds, trues = [], []
    with torch.no_grad():
        for xb, yb in loader:
            preds.append(model(xb.to(device)).squeeze(-1).cpu())
            trues.append(yb)
    return torch.cat(preds), torch.cat(trues)


def to_mw(values):
    return values.numpy() * scaler.scale_[TARGET] + scaler.mean_[TARGET]


best_val, best_state = float("inf"), None
for epoch in range(1, EPOCHS + 1):
    model.train()
    running = 0.0
    for xb, yb in train_loader:
        xb, yb = xb.to(device), yb.to(device)
        optimizer.zero_grad()
        pred = model(xb).squeeze(-1)
        loss = criterion(pred, yb)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        running += loss.item() * len(xb)
    scheduler.step()

    val_pred, val_true = predict(val_loader)
    val_loss = nn.functional.mse_loss(val_pred, val_true).item()
    if val_loss < best_val:
        best_val, best_state = val_loss, copy.deepcopy(model.state_dict())
    print(f"epoch {epoch:2d} | train {running / len(X_train):.4f} | val {val_loss:.4f}")

# ---------------------------------------------------------------- test
model.load_state_dict(best_state)
pred, true = predict(test_loader)
pred, true = to_mw(pred), to_mw(true)
naive = to_mw(X_test[:, -1, TARGET])

rmse = np.sqrt(np.mean((pred - true) ** 2))
mae = np.mean(np.abs(pred - true))
naive_rmse = np.sqrt(np.mean((naive - true) ** 2))
r2 = 1 - np.sum((pred - true) ** 2) / np.sum((true - true.mean()) ** 2)
print(f"test RMSE {rmse:.2f} MW | MAE {mae:.2f} MW | R2 {r2:.3f} | persistence RMSE {naive_rmse:.2f} MW")
