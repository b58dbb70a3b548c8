"""Does a visitor buy? Two classes by one probability."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def visits(count=2400):
    draw = torch.Generator().manual_seed(7)
    pages = 5 + 2 * torch.randn(count, generator=draw)
    seconds = 600 + 250 * torch.randn(count, generator=draw)
    basket = 80 + 30 * torch.randn(count, generator=draw)
    hour = 12 + 4 * torch.randn(count, generator=draw)
    a, b, c = (pages - 5) / 2, (seconds - 600) / 250, (basket - 80) / 30
    score = 2.5 * a * b + 1.5 * c + 0.5 * torch.randn(count, generator=draw)
    return torch.stack([pages, seconds, basket, hour], 1), (score > 0).float().unsqueeze(1)


class Buyer(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(32, 1)

    def forward(self, x):
        return torch.sigmoid(self.head(self.hidden(x)))


def run(epochs=12):
    torch.manual_seed(2)
    x, y = visits()
    x = (x - x[:2000].mean(0)) / x[:2000].std(0)
    train_part, valid_part = TensorDataset(x[:2000], y[:2000]), TensorDataset(x[2000:], y[2000:])
    train_loader = DataLoader(train_part, batch_size=40, shuffle=True)
    valid_loader = DataLoader(valid_part, batch_size=200)
    model = Buyer()
    loss_function = nn.BCELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(epochs):
        model.train()
        for xb, yb in train_loader:
            optimizer.zero_grad()
            output = model(xb)
            loss = loss_function(output, yb)
            loss.backward()
            optimizer.step()
        model.eval()
        hits = 0
        with torch.no_grad():
            for xb, yb in valid_loader:
                hits += ((model(xb) > 0.5).float() == yb).sum().item()
        print(f"epoch {epoch}: loss {loss.item():.3f}, accuracy {hits / len(valid_part):.3f}")


if __name__ == "__main__":
    run()
