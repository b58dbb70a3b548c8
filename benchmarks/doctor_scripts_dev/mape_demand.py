import numpy as np
import torch
from sklearn.datasets import load_diabetes
from torch import nn

rng = np.random.default_rng(5)
X, y = load_diabetes(return_X_y=True)
X = (X / X.std(0)).astype("float32")
y = (y / 100).astype("float32")[:, None]
order = rng.permutation(len(X))
X_train, y_train = torch.from_numpy(X[order[:340]]), torch.from_numpy(y[order[:340]])
X_test, y_test = torch.from_numpy(X[order[340:]]), torch.from_numpy(y[order[340:]])


def mape(pred, true):
    return ((true - pred).abs() / true).mean()


torch.manual_seed(0)
net = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 1))
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
batch_size = 20
for epoch in range(40):
    net.train()
    perm = torch.randperm(len(X_train))
    for start in range(0, len(X_train), batch_size):
        idx = perm[start : start + batch_size]
        xb, yb = X_train[idx], y_train[idx]
        opt.zero_grad()
        loss = mape(net(xb), yb)
        loss.backward()
        opt.step()
    net.eval()
    with torch.no_grad():
        print(epoch, loss.item(), mape(net(X_test), y_test).item())
