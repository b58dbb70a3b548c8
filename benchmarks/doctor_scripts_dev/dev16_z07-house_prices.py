"""Sale prices of houses from a table with gaps: small MLP behind an sklearn-like interface."""
import copy

import numpy as np
import torch
from sklearn.impute import SimpleImputer
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses

SEED = 3


def load_table(rows=1600, missing=0.04):
    """A dictionary of columns, in the units of the land registry."""
    features, price = houses(rows, seed=SEED)
    f = features.double().numpy()
    table = {
        "id": np.arange(rows) + 100_000.0,
        "area_sqm": 120 + 35 * f[:, 0],
        "km_to_center": 9 + 2.5 * f[:, 1],
        "rooms": 4.5 + 1.2 * f[:, 2],
        "condition": 50 + 14 * f[:, 3],
        "year": 1975 + 16 * f[:, 4],
        "lot_sqm": 640 + 180 * f[:, 5],
        "tax_rate": 1.1 + 0.2 * f[:, 6],
        "agent": f[:, 7],
        "price": 1000 * price.double().numpy(),
    }
    rng = np.random.default_rng(SEED)
    for column in ("lot_sqm", "tax_rate"):
        table[column][rng.random(rows) < missing] = np.nan
    return table


class MLPRegressor(nn.Module):
    def __init__(self, n_in, hidden=(64, 32)):
        super().__init__()
        layers = []
        for width in hidden:
            layers.append(nn.Linear(n_in, width))
            layers.append(nn.SiLU())
            n_in = width
        layers.append(nn.Linear(n_in, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


class PriceModel:
    """fit(X, y) / predict(X); keeps its own scaling of features and target."""

    def __init__(self, lr=2e-3, batch_size=64, max_epochs=60, patience=8, val_size=0.15):
        self.lr, self.batch_size, self.max_epochs = lr, batch_size, max_epochs
        self.patience, self.val_size = patience, val_size
        self.imputer = SimpleImputer(strategy="median")
        self.scaler = StandardScaler()

    def _features(self, X, fit=False):
        if fit:
            X = self.imputer.fit_transform(X)
            X = self.scaler.fit_transform(X)
        else:
            X = self.imputer.transform(X)
            X = self.scaler.transform(X)
        return torch.tensor(X, dtype=torch.float32)

    def fit(self, X, y):
        X_train, X_val, y_train, y_val = train_test_split(X, y, test_size=self.val_size, random_state=SEED)
        X_train, X_val = self._features(X_train, fit=True), self._features(X_val)
        self.y_mean, self.y_scale = float(y_train.mean()), float(y_train.std())
        t_train = torch.tensor((y_train - self.y_mean) / self.y_scale, dtype=torch.float32).unsqueeze(1)
        t_val = torch.tensor((y_val - self.y_mean) / self.y_scale, dtype=torch.float32).unsqueeze(1)

        self.net = MLPRegressor(X_train.shape[1])
        optimizer = torch.optim.Adam(self.net.parameters(), lr=self.lr)
        mse = nn.MSELoss()
        loader = DataLoader(TensorDataset(X_train, t_train), batch_size=self.batch_size, shuffle=True)
        best, best_state, since = float("inf"), None, 0
        for epoch in range(self.max_epochs):
            self.net.train()
            for xb, tb in loader:
                optimizer.zero_grad()
                loss = mse(self.net(xb), tb)
                loss.backward()
                optimizer.step()
            self.net.eval()
            with torch.no_grad():
                val_loss = mse(self.net(X_val), t_val).item()
            if epoch % 5 == 0:
                print(f"epoch {epoch:3d}  train {loss.item():.4f}  val {val_loss:.4f}")
            if val_loss < best:
                best, best_state, since = val_loss, copy.deepcopy(self.net.state_dict()), 0
            else:
                since += 1
                if since == self.patience:
                    break
        if best_state is not None:
            self.net.load_state_dict(best_state)
        print(f"stopped after epoch {epoch}, best val mse {best:.4f}")
        return self

    @torch.no_grad()
    def predict(self, X):
        out = self.net(self._features(X))
        return out.numpy().ravel() * self.y_scale + self.y_mean


def main():
    torch.manual_seed(SEED)
    table = load_table()
    names = [c for c in table if c not in ("id", "price")]
    X = np.stack([table[c] for c in names], axis=1)
    y = table["price"]
    print(f"{len(y)} sales, {len(names)} features, {np.isnan(X).any(1).sum()} rows with gaps")
    X_fit, X_test, y_fit, y_test = train_test_split(X, y, test_size=0.25, random_state=0)

    model = PriceModel().fit(X_fit, y_fit)
    pred = model.predict(X_test)
    if np.isnan(pred).any():
        print("prediction: nan")
        return
    print(f"test R2 {r2_score(y_test, pred):.3f}, MAE {mean_absolute_error(y_test, pred):,.0f} $ "
          f"(mean price {y_test.mean():,.0f} $)")


if __name__ == "__main__":
    main()
