import torch
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

X, y = load_diabetes(return_X_y=True, scaled=False)
X = torch.tensor(StandardScaler().fit_transform(X), dtype=torch.float32)
y = torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32)
loader_train = DataLoader(TensorDataset(X[:360], y[:360]), batch_size=30, shuffle=True)
loader_val = DataLoader(TensorDataset(X[360:], y[360:]), batch_size=82)


class MeanAndVariance(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(10, 24), nn.ReLU())
        self.mean = nn.Linear(24, 1)
        self.log_var = nn.Linear(24, 1)

    def forward(self, x):
        h = self.trunk(x)
        return self.mean(h).squeeze(-1), self.log_var(h).squeeze(-1)


def nll(mu, log_var, target):
    return (0.5 * (log_var + (target - mu) ** 2 * torch.exp(-log_var))).mean()


torch.manual_seed(2)
model = MeanAndVariance()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(20):
    model.train()
    for features, target in loader_train:
        mu, log_var = model(features)
        loss = nll(mu, log_var, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        val = sum(nll(*model(f), t).item() for f, t in loader_val) / len(loader_val)
    print(epoch, loss.item(), val)
