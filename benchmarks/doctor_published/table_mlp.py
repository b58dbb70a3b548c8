"""Three kinds of plants from five measurements of various scales: a network of dense layers."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(1)


def measurements(count, seed):
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, count)
    radius = rng.uniform(0.3, 2.4, count)
    kind = ((radius + 0.25 * np.sin(3 * angle)) / 0.8).astype(int).clip(0, 2)
    plain = np.stack([radius * np.cos(angle), radius * np.sin(angle), rng.normal(size=count)], 1)
    extra = plain[:, :2] + 0.1 * rng.normal(size=(count, 2))
    table = np.concatenate([plain, extra], 1) * [30.0, 400.0, 1.0, 2000.0, 0.5] + [60.0, 900.0, 0.0, 5000.0, 1.0]
    return table.astype("float32"), kind.astype("int64")


x_train, y_train = measurements(2000, 0)
x_test, y_test = measurements(500, 1)
mean, std = x_train.mean(0), x_train.std(0)
x_train = (x_train - mean) / std
x_test = (x_test - mean) / std

train_loader = DataLoader(TensorDataset(torch.from_numpy(x_train), torch.from_numpy(y_train)), 32, shuffle=True)
test_loader = DataLoader(TensorDataset(torch.from_numpy(x_test), torch.from_numpy(y_test)), 250)

width = 48
model = nn.Sequential(
    nn.Linear(5, width),
    nn.ReLU(),
    nn.Linear(width, width),
    nn.ReLU(),
    nn.Linear(width, 3),
)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.003)

for epoch in range(10):
    model.train()
    for xb, yb in train_loader:
        prediction = model(xb)
        loss = criterion(prediction, yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    model.eval()
    correct = 0
    with torch.no_grad():
        for xb, yb in test_loader:
            correct += (model(xb).argmax(dim=1) == yb).sum().item()
    print(f"{epoch:2d} loss {loss.item():.3f} accuracy {correct / len(y_test):.3f}")
