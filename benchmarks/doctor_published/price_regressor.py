"""House prices by a small network."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from toydata import houses


class PriceNet(nn.Module):
    def __init__(self, features=8, units=64):
        super().__init__()
        self.first = nn.Linear(features, units)
        self.second = nn.Linear(units, units)
        self.last = nn.Linear(units, 1)

    def forward(self, x):
        x = F.relu(self.first(x))
        x = F.relu(self.second(x))
        return self.last(x)


def penalty(model, l2=1e-5):
    return l2 * sum(p.pow(2).sum() for p in model.parameters() if p.dim() > 1)


def objective(estimate, price):
    return F.mse_loss(estimate, price)


def load():
    x, price = houses(1600, seed=5)
    units = torch.tensor([150.0, 3.0, 40.0, 0.01, 700.0, 1.0, 12.0, 90.0])
    x = x * units + 4 * units
    price = price.unsqueeze(1)
    x = (x - x[:1200].mean(0)) / x[:1200].std(0)
    price = (price - price[:1200].mean()) / price[:1200].std()
    return TensorDataset(x[:1200], price[:1200]), TensorDataset(x[1200:], price[1200:])


def explained(model, loader):
    model.eval()
    with torch.no_grad():
        pairs = [(model(x), price) for x, price in loader]
    estimate, price = (torch.cat(part) for part in zip(*pairs, strict=True))
    return 1 - ((estimate - price) ** 2).mean() / price.var()


torch.manual_seed(3)
train_data, test_data = load()
train_loader = DataLoader(train_data, batch_size=32, shuffle=True)
test_loader = DataLoader(test_data, batch_size=100)
model = PriceNet()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
for epoch in range(15):
    model.train()
    for x, price in train_loader:
        loss = objective(model(x), price) + penalty(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.3f}, explained {explained(model, test_loader):.3f}")
