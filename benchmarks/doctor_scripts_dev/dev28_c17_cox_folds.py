"""Survival analysis: Cox's partial likelihood, four folds, early stopping inside each on patients of its own."""
import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def patients(count=1600, seed=0):
    """Twelve measurements of various units; a time of death or of the end of observation."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 12, generator=generator)
    risk = 1.2 * x[:, 0] - 0.9 * x[:, 1] + 0.8 * x[:, 2] * x[:, 3] + 0.6 * (x[:, 4] ** 2 - 1)
    death = torch.empty(count).exponential_(1.0, generator=generator) / risk.exp()
    censored = torch.empty(count).exponential_(0.4, generator=generator)
    units = torch.tensor([1.0, 50.0, 0.1, 3.0, 10.0, 1.0, 200.0, 0.5, 5.0, 1.0, 20.0, 2.0])
    return x * units + 3 * units, torch.minimum(death, censored), (death <= censored).float()


def cox_loss(risk, time, event):
    """Of those still under observation, was it the one who died? Depends on the batch as a whole, and may."""
    order = time.argsort(descending=True)
    risk, event = risk[order], event[order]
    return ((torch.logcumsumexp(risk, 0) - risk) * event).sum() / event.sum().clamp(min=1)


def concordance(risk, time, event):
    comparable = (time[:, None] < time[None, :]) & (event[:, None] > 0)
    higher = (risk[:, None] > risk[None, :]).float() + 0.5 * (risk[:, None] == risk[None, :]).float()
    return (higher[comparable].sum() / comparable.sum()).item()


class RiskNet(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, 64), nn.SELU(), nn.AlphaDropout(0.1), nn.Linear(64, 32), nn.SELU(), nn.Linear(32, 1, bias=False)
        )

    def forward(self, x):
        return self.layers(x).squeeze(1)


def score(model, x, time, event):
    model.eval()
    with torch.no_grad():
        return concordance(model(x), time, event)


def fit_fold(number, data, train, stop, test, epochs=30, patience=8):
    x, time, event = data
    mean, spread = x[train].mean(0), x[train].std(0)
    x = (x - mean) / spread
    batches = DataLoader(TensorDataset(x[train], time[train], event[train]), batch_size=64, shuffle=True, drop_last=True)
    model = RiskNet(x.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    best, best_state, waited = 0.0, None, 0
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for part in batches:
            loss = cox_loss(model(part[0]), part[1], part[2])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        current = score(model, x[stop], time[stop], event[stop])
        print(f"fold {number} epoch {epoch:2d} loss {total / len(batches):.4f} concordance {current:.4f}")
        if current > best:
            best, best_state, waited = current, copy.deepcopy(model.state_dict()), 0
        else:
            waited += 1
            if waited == patience:
                break
    model.load_state_dict(best_state)
    return score(model, x[test], time[test], event[test])


def main(folds=4):
    torch.manual_seed(18)
    torch.set_num_threads(1)
    data = patients()
    parts = torch.randperm(len(data[0])).chunk(folds)
    results = []
    for number in range(folds):
        others = torch.cat([part for other, part in enumerate(parts) if other != number])
        cut = len(others) // 6
        result = fit_fold(number, data, train=others[cut:], stop=others[:cut], test=parts[number])
        print(f"fold {number}: concordance {result:.4f} on patients that took part in nothing")
        results.append(result)
    print(f"mean over folds {sum(results) / folds:.4f} (0.5 by guessing)")


if __name__ == "__main__":
    main()
