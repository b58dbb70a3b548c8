"""House prices with an MLP and a Keras-like fit(): Huber loss, plateau schedule, early stopping, best weights restored."""
import copy

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import toydata

SEED = 11


def load_frame(count=3000):
    features, price = toydata.houses(count, seed=SEED)
    frame = pd.DataFrame(features.numpy(), columns=[f"f{i}" for i in range(features.shape[1])])
    frame["price"] = price.numpy()
    return frame


class EarlyStopping:
    def __init__(self, patience, min_delta=1e-4):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.wait, self.weights = float("inf"), 0, None

    def __call__(self, value, model):
        if value < self.best - self.min_delta:
            self.best, self.wait = value, 0
            self.weights = copy.deepcopy(model.state_dict())
        else:
            self.wait += 1
        return self.wait >= self.patience


class MLP(nn.Module):
    def __init__(self, n_in, hidden=64):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_in, hidden), nn.SiLU(),
            nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.layers(x)


class Regressor:
    def __init__(self, model, lr=4e-3, weight_decay=1e-2):
        self.model = model
        self.criterion = nn.HuberLoss(delta=1.0)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, mode="min", factor=0.5, patience=3)

    def _epoch(self, loader):
        self.model.train()
        total = 0.0
        for xb, yb in loader:
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(xb), yb)
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(xb)
        return total / len(loader.dataset)

    @torch.no_grad()
    def evaluate(self, x, y):
        self.model.eval()
        return self.criterion(self.model(x), y).item()

    @torch.no_grad()
    def predict(self, x):
        self.model.eval()
        return self.model(x).numpy()

    def fit(self, x, y, validation_data, epochs=50, batch_size=60, patience=10):
        loader = DataLoader(TensorDataset(x, y), batch_size=batch_size, shuffle=True)
        stopper = EarlyStopping(patience)
        history = {"loss": [], "val_loss": [], "lr": []}
        for epoch in range(epochs):
            history["loss"].append(self._epoch(loader))
            history["val_loss"].append(self.evaluate(*validation_data))
            history["lr"].append(self.optimizer.param_groups[0]["lr"])
            self.scheduler.step(history["val_loss"][-1])
            if epoch % 5 == 0:
                print(f"Epoch {epoch + 1}/{epochs} - loss: {history['loss'][-1]:.4f} - val_loss: {history['val_loss'][-1]:.4f}")
            if stopper(history["val_loss"][-1], self.model):
                print(f"stopped after epoch {epoch + 1}")
                break
        self.model.load_state_dict(stopper.weights)
        return history


def as_tensor(array):
    return torch.as_tensor(np.asarray(array), dtype=torch.float32)


def main():
    torch.manual_seed(SEED)
    frame = load_frame()
    train, rest = train_test_split(frame, test_size=0.3, random_state=SEED)
    valid, test = train_test_split(rest, test_size=0.5, random_state=SEED)
    columns = [c for c in frame.columns if c != "price"]

    x_scaler = StandardScaler().fit(train[columns].values)
    y_scaler = StandardScaler().fit(train[["price"]].values)

    def prepare(part):
        return as_tensor(x_scaler.transform(part[columns].values)), as_tensor(y_scaler.transform(part[["price"]].values))

    x_train, y_train = prepare(train)
    x_valid, y_valid = prepare(valid)
    x_test, _ = prepare(test)

    regressor = Regressor(MLP(len(columns)))
    history = regressor.fit(x_train, y_train, validation_data=(x_valid, y_valid))
    table = pd.DataFrame(history)
    print(table.iloc[[0, table["val_loss"].idxmin(), len(table) - 1]].round(4).to_string())

    predicted = y_scaler.inverse_transform(regressor.predict(x_test)).ravel()
    actual = test["price"].values
    rmse = float(np.sqrt(np.mean((predicted - actual) ** 2)))
    print(f"test: MAE {mean_absolute_error(actual, predicted):.2f}  RMSE {rmse:.2f}  R2 {r2_score(actual, predicted):.4f}")


if __name__ == "__main__":
    main()
