"""House prices: standardized targets, plateau schedule, early stopping with a checkpoint."""

import copy
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses


class Scaler:
    def fit(self, values):
        self.mean, self.std = values.mean(0, keepdim=True), values.std(0, keepdim=True)
        return self

    def transform(self, values):
        return (values - self.mean) / self.std

    def inverse(self, values):
        return values * self.std + self.mean


@dataclass
class EarlyStopping:
    patience: int = 12
    best: float = float("inf")
    waited: int = 0
    state: dict = field(default_factory=dict)

    def __call__(self, value, model):
        if value < self.best - 1e-4:
            self.best, self.waited = value, 0
            self.state = copy.deepcopy(model.state_dict())
        else:
            self.waited += 1
        return self.waited >= self.patience


def make_model(inputs, width=128):
    return nn.Sequential(
        nn.Linear(inputs, width), nn.LayerNorm(width), nn.SiLU(),
        nn.Linear(width, width), nn.LayerNorm(width), nn.SiLU(), nn.Dropout(0.05),
        nn.Linear(width, 1),
    )  # fmt: skip


torch.manual_seed(0)
features, price = houses(4000)
price = price.unsqueeze(1)
order = torch.randperm(len(price))
train_rows, val_rows, test_rows = order[:3000], order[3000:3500], order[3500:]
x_scaler, y_scaler = Scaler().fit(features[train_rows]), Scaler().fit(price[train_rows])


def loader(rows, **options):
    x, y = x_scaler.transform(features[rows]), y_scaler.transform(price[rows])
    return DataLoader(TensorDataset(x, y), **options)


train_loader = loader(train_rows, batch_size=64, shuffle=True)
val_loader, test_loader = loader(val_rows, batch_size=500), loader(test_rows, batch_size=500)

model = make_model(features.shape[1])
criterion = nn.HuberLoss(delta=1.5)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.4, patience=4)
stopper = EarlyStopping()


def evaluate(loader):
    model.eval()
    with torch.no_grad():
        guesses = torch.cat([model(x) for x, _ in loader])
    targets = torch.cat([y for _, y in loader])
    loss = criterion(guesses, targets).item()
    error = y_scaler.inverse(guesses) - y_scaler.inverse(targets)
    r2 = 1 - error.pow(2).sum() / (y_scaler.inverse(targets) - y_scaler.mean).pow(2).sum()
    return loss, error.abs().mean().item(), r2.item()


for epoch in range(90):
    model.train()
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
    val_loss, mae, r2 = evaluate(val_loader)
    scheduler.step(val_loss)
    print(f"epoch {epoch:3d} val loss {val_loss:.4f} MAE {mae:.2f}k R2 {r2:.4f} lr {optimizer.param_groups[0]['lr']:.1e}")
    if stopper(val_loss, model):
        print("early stopping")
        break

model.load_state_dict(stopper.state)
_, mae, r2 = evaluate(test_loader)
print(f"test MAE {mae:.2f}k R2 {r2:.4f}")
