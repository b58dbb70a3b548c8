import numpy as np
import torch
import torch.nn as nn
import torch.utils.data as data

rng = np.random.default_rng(0)
t = np.arange(2400)
timeseries = 20 + 5 * np.sin(t / 9) + 3 * np.sin(t / 31) + 0.4 * rng.standard_normal(len(t))
timeseries = timeseries.astype("float32")[:, None]
train_size = int(len(timeseries) * 0.7)
train, test = timeseries[:train_size], timeseries[train_size:]
mean, std = train.mean(), train.std()
train, test = (train - mean) / std, (test - mean) / std


def create_dataset(dataset, lookback):
    X, y = [], []
    for i in range(len(dataset) - lookback - 1):
        feature = dataset[i : i + lookback]
        target = dataset[i + lookback]
        X.append(feature)
        y.append(target)
    return torch.tensor(np.array(X)), torch.tensor(np.array(y))


lookback = 24
X_train, y_train = create_dataset(train, lookback=lookback)
X_test, y_test = create_dataset(test, lookback=lookback)


class AirModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(input_size=1, hidden_size=24, num_layers=1, batch_first=True)
        self.linear = nn.Linear(24, 1)

    def forward(self, x):
        x, _ = self.lstm(x)
        return self.linear(x[:, -1])


torch.manual_seed(0)
model = AirModel()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
loss_fn = nn.MSELoss()
loader = data.DataLoader(data.TensorDataset(X_train, y_train), shuffle=True, batch_size=32)

n_epochs = 20
for epoch in range(n_epochs):
    model.train()
    for X_batch, y_batch in loader:
        y_pred = model(X_batch)
        loss = loss_fn(y_pred, y_batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 5 != 0:
        continue
    model.eval()
    with torch.no_grad():
        train_rmse = np.sqrt(loss_fn(model(X_train), y_train))
        test_rmse = np.sqrt(loss_fn(model(X_test), y_test))
    print("Epoch %d: train RMSE %.4f, test RMSE %.4f" % (epoch, train_rmse, test_rmse))
