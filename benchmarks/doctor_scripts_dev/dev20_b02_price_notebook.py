# %% [markdown]
# # Prices of flats
# A multilayer perceptron with an embedding of the district. Made data: 12 000 sales.

# %%
import copy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(42)
torch.set_num_threads(1)
rng = np.random.default_rng(42)

# %% The table
n = 12_000
area = rng.gamma(6.0, 18.0, n)  # square meters
rooms = np.clip(np.round(area / 28 + rng.normal(0, 0.8, n)), 1, 9)
year = rng.integers(1920, 2024, n).astype(float)
distance = rng.exponential(6000.0, n)  # meters to the center
income = rng.lognormal(10.3, 0.35, n)  # of the neighborhood, per year
floor = rng.integers(0, 8, n).astype(float)
balcony = rng.uniform(0, 12, n)  # square meters, not always known
balcony[rng.random(n) < 0.08] = np.nan
district = rng.integers(0, 12, n)

level = np.linspace(-1.5, 1.5, 12)[rng.permutation(12)]
price = 40_000 + area * (1500 + 350 * level[district]) + 70_000 * np.exp(-distance / 4000)
price = price - 400 * (2024 - year) + 0.8 * income + 3_000 * floor + 2_000 * np.nan_to_num(balcony, nan=6.0)
price = price + rng.normal(0, 15_000, n)
price = price.astype(np.float32)

# %% Missing values, features
balcony = np.where(np.isnan(balcony), np.nanmedian(balcony), balcony)
features = np.column_stack([area, rooms, year, distance, income, floor, balcony]).astype(np.float32)
print("features:", features.shape, " mean price:", price.mean())

# %% Split and scale
train_rows, val_rows = train_test_split(np.arange(n), test_size=0.2, random_state=0)
scaler = StandardScaler().fit(features[train_rows])
y_mean, y_std = price[train_rows].mean(), price[train_rows].std()


def prepare(rows):
    x = torch.tensor(scaler.transform(features[rows]), dtype=torch.float32)
    d = torch.tensor(district[rows], dtype=torch.long)
    y = torch.tensor((price[rows] - y_mean) / y_std, dtype=torch.float32)
    return x, d, y


train_loader = DataLoader(TensorDataset(*prepare(train_rows)), batch_size=64, shuffle=True)
x_val, d_val, y_val = prepare(val_rows)


# %% Model
class PriceNet(nn.Module):
    def __init__(self, n_features, n_districts, width=128):
        super().__init__()
        self.district = nn.Embedding(n_districts, 4)
        self.body = nn.Sequential(
            nn.Linear(n_features + 4, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 1),
        )

    def forward(self, x, d):
        x = torch.cat([x, self.district(d)], dim=1)
        return self.body(x).squeeze(1)


model = PriceNet(features.shape[1], 12)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-3)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.3, patience=4)


# %% Evaluation
def evaluate():
    model.eval()
    with torch.no_grad():
        prediction = model(x_val, d_val)
    residual = prediction - y_val
    rmse = residual.pow(2).mean().sqrt().item() * float(y_std)
    r2 = 1 - residual.pow(2).mean().item() / y_val.var(unbiased=False).item()
    return rmse, r2


# %% Training
EPOCHS = 55
best_rmse, best_state = float("inf"), copy.deepcopy(model.state_dict())
history = []

for epoch in range(EPOCHS):
    model.train()
    losses = []
    for x, d, y in train_loader:
        optimizer.zero_grad()
        loss = F.mse_loss(model(x, d), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    rmse, r2 = evaluate()
    scheduler.step(rmse)
    history.append((np.mean(losses), rmse, r2))
    if rmse < best_rmse:
        best_rmse, best_state = rmse, copy.deepcopy(model.state_dict())
    print(f"epoch {epoch + 1:02d} | train mse {np.mean(losses):.4f} | val rmse {rmse:9.0f} | val R2 {r2:.4f}")

# %% The best epoch
model.load_state_dict(best_state)
rmse, r2 = evaluate()
print(f"best model: rmse {rmse:.0f}, R2 {r2:.4f}")
